/**
 * A stored container → its OCI runtime spec: gathers from the host what the pure `buildSpec` is told.
 * @module
 */
import { stat } from "node:fs/promises";
import type { ContainerRecord } from "#container/mod.ts";
import { isRunning } from "#container/state.ts";
import type { HostConfig } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import { listHostDevices, resolveDevice } from "#linux/devices.ts";
import { buildSpec, devicePathsOf, type ResolvedUser, type SpecInput, type SpecResult } from "#runtime/mod.ts";
import { cdiAdditions, defaultCdiDirs } from "./cdi-devices.ts";
import type { EngineContext } from "./context.ts";

export interface SpecContext {
  readonly user: ResolvedUser;
  /** Which processes hold the namespaces that are joined. "unknown": checked without them. */
  readonly join: NonNullable<SpecInput["join"]> | "unknown";
}

export async function specOf(ctx: EngineContext, record: ContainerRecord, { user, join }: SpecContext): Promise<SpecResult> {
  const { config, hostConfig } = record;
  const needsHost = hostConfig.Privileged || (hostConfig.Devices?.length ?? 0) > 0;
  const paths = devicePathsOf(hostConfig);
  const requests = hostConfig.DeviceRequests ?? [];
  const [devices, deviceNumbers, mounts, cdi] = await Promise.all([
    needsHost ? devicesOf(hostConfig) : [],
    paths.length > 0 ? numbersOf(paths) : {},
    Promise.all(record.mounts.map(withKind)),
    requests.length > 0 ? cdiAdditions(requests, ctx.options.cdiSpecDirs ?? defaultCdiDirs) : undefined,
  ]);
  const result = buildSpec({
    id: record.id,
    config: cdi === undefined ? config : { ...config, Env: [...(config.Env ?? []), ...cdi.env] },
    hostConfig,
    args: [record.path, ...record.args],
    user:
      cdi === undefined || cdi.additionalGids.length === 0
        ? user
        : { ...user, additionalGids: [...new Set([user.gid, ...user.additionalGids, ...cdi.additionalGids])] },
    mounts,
    files: etcFiles(record),
    cgroupsPath: cgroupPath(ctx, record),
    join: join === "unknown" ? { pid: 1, ipc: 1, network: 1, uts: 1 } : join,
    facts: ctx.facts,
    userns: record.idMappings,
    ownersOnDisk: record.ownersOnDisk === "all",
    ...(record.appArmorProfile === undefined ? {} : { appArmorProfile: record.appArmorProfile }),
    ...(record.processLabel === undefined ? {} : { processLabel: record.processLabel }),
    ...(record.mountLabel === undefined ? {} : { mountLabel: record.mountLabel }),
    devices: [...devices, ...(cdi?.devices ?? [])],
    deviceNumbers,
  });
  if (cdi === undefined) return result;
  const { spec } = result;
  spec.mounts = [...(spec.mounts ?? []), ...cdi.mounts];
  if (cdi.hooks !== undefined) spec.hooks = cdi.hooks;
  return { ...result, files: new Set([...result.files, ...cdi.files]) };
}

/** What is bound over /etc/hostname and its kin: nothing where the user mounts something of his own. */
function etcFiles(record: ContainerRecord): SpecInput["files"] {
  const taken = new Set(record.mounts.map((m) => m.Destination));
  const free = (path: string) => !taken.has(path) && !taken.has("/etc");
  return {
    ...(free("/etc/hostname") ? { hostname: record.hostnamePath } : {}),
    ...(free("/etc/hosts") ? { hosts: record.hostsPath } : {}),
    ...(free("/etc/resolv.conf") ? { resolvConf: record.resolvConfPath } : {}),
  };
}

/** Whether a bind's source is a directory decides what its mount point is; its owner, how owners are mapped. */
async function withKind(mount: ContainerRecord["mounts"][number]): Promise<SpecInput["mounts"][number]> {
  if (mount.Type !== "bind") return mount;
  const info = await stat(mount.Source).catch(() => undefined); // missing: the mount itself says so
  if (info === undefined) return mount;
  return { ...mount, owner: { uid: info.uid, gid: info.gid }, ...(info.isDirectory() ? {} : { file: true }) };
}

async function devicesOf(host: HostConfig): Promise<NonNullable<SpecInput["devices"]>> {
  const own = await Promise.all(
    (host.Devices ?? []).map(async ({ PathOnHost, PathInContainer, CgroupPermissions }) =>
      (await resolveDevice(PathOnHost, PathInContainer || PathOnHost)).map((node) => ({ ...node, access: CgroupPermissions || "rwm" })),
    ),
  );
  const all = host.Privileged ? (await listHostDevices()).map((node) => ({ ...node, access: "rwm" })) : [];
  const byPath = new Map([...all, ...own.flat()].map((node) => [node.path, node]));
  return [...byPath.values()];
}

async function numbersOf(paths: readonly string[]): Promise<NonNullable<SpecInput["deviceNumbers"]>> {
  const entries = await Promise.all(
    paths.map(async (path) => {
      const [node] = await resolveDevice(path, path).catch((cause: unknown) => {
        throw new EngineError("invalid", `stat ${path}: no such file or directory`, { cause });
      });
      if (node === undefined) throw new EngineError("invalid", `no such device: "${path}"`);
      return [path, { major: node.major, minor: node.minor }] as const;
    }),
  );
  return Object.fromEntries(entries);
}

/** As the OCI spec names it. */
export function cgroupPath(ctx: EngineContext, record: ContainerRecord): string {
  if (ctx.cgroups.driver === "systemd") return `${record.hostConfig.CgroupParent || ctx.options.cgroupParent || "system.slice"}:wherry:${record.id}`;
  const parent = record.hostConfig.CgroupParent || ctx.options.cgroupParent || "/wherry";
  return `${parent.startsWith("/") ? parent : `/${parent}`}/${record.id}`;
}

/** Host pids of the containers that `container:X` modes name. @throws EngineError "conflict" when one does not run */
export function joinedProcesses(ctx: EngineContext, host: HostConfig): NonNullable<SpecInput["join"]> {
  const pidOf = (mode: string, what: string): number | undefined => {
    const id = /^container:(.+)$/.exec(mode)?.[1];
    if (id === undefined) return undefined;
    const other = ctx.registry.get(id);
    if (!isRunning(other.state))
      throw new EngineError(
        "conflict",
        `cannot join ${what} of a ${other.state.status === "restarting" ? "restarting" : "non running"} container: ${other.id}`,
      );
    if (what === "IPC" && !["shareable", ""].includes(other.record.hostConfig.IpcMode))
      throw new EngineError("conflict", `can't join IPC of container ${other.id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)`);
    return other.state.pid;
  };
  const [pid, ipc, network] = [pidOf(host.PidMode, "PID namespace"), pidOf(host.IpcMode, "IPC"), pidOf(host.NetworkMode, "network namespace")];
  return { ...(pid === undefined ? {} : { pid }), ...(ipc === undefined ? {} : { ipc }), ...(network === undefined ? {} : { network }) };
}
