/**
 * Devices by CDI name, and `--gpus`: finds them in the CDI directories, and says what they add to a container.
 * @module
 */
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { DeviceRequest } from "#core/container-config.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { OciMount, OciSpec } from "#core/runtime-spec.ts";
import { type DeviceNode, resolveDevice } from "#linux/devices.ts";
import { type CdiEdits, type CdiSpec, parseCdiName, parseCdiSpec } from "#runtime/cdi.ts";

/** Where Docker looks. */
export const defaultCdiDirs: readonly string[] = ["/etc/cdi", "/var/run/cdi"];
/** Larger ones are no device descriptions. */
const MAX_FILE_BYTES = 4 << 20;

export interface CdiAdditions {
  readonly env: readonly string[];
  readonly devices: readonly (DeviceNode & { readonly access: string })[];
  readonly mounts: readonly OciMount[];
  /** Destinations of binds whose source is no directory. */
  readonly files: readonly string[];
  readonly additionalGids: readonly number[];
  /** As in a spec; undefined = none. */
  readonly hooks: OciSpec["hooks"];
}

/** @throws EngineError "invalid" in Docker's words when there is no such device */
export async function cdiAdditions(requests: readonly DeviceRequest[], dirs: readonly string[]): Promise<CdiAdditions> {
  const specs = await readSpecs(dirs);
  const names = requests.flatMap((request) => namesOf(request, specs));
  const all: CdiEdits[] = [];
  const kinds = new Set<string>();
  const missing: string[] = [];
  for (const text of new Set(names)) {
    const parsed = parseCdiName(text);
    const spec = parsed === undefined ? undefined : specs.find(({ kind, devices }) => kind === parsed.kind && devices.has(parsed.name));
    const edits = parsed === undefined ? undefined : spec?.devices.get(parsed.name);
    if (spec === undefined || edits === undefined) {
      missing.push(text);
      continue;
    }
    if (!kinds.has(spec.kind)) all.push(spec.edits);
    kinds.add(spec.kind);
    all.push(edits);
    const [lacking] = [...spec.edits.unsupported, ...edits.unsupported];
    if (lacking !== undefined)
      throw new EngineError("unsupported", `the CDI device ${text} needs ${lacking}, which this engine does not do`, {
        hint: "use the runtime of its vendor, or a CDI file without it",
      });
  }
  if (missing.length > 0)
    throw new EngineError("invalid", `CDI device injection failed: unresolvable CDI devices ${missing.join(", ")}`, {
      hint: `CDI files are looked for in ${dirs.join(" and ")}`,
    });
  return gather(all);
}

function namesOf(request: DeviceRequest, specs: readonly CdiSpec[]): string[] {
  const { Driver: driver, Count: count, DeviceIDs: ids, Capabilities: capabilities } = request;
  if (driver === "cdi") return ids ?? [];
  const gpu = capabilities?.some((set) => set.includes("gpu")) === true;
  const vendors = specs.filter(({ kind }) => kind.endsWith("/gpu") && (driver === "" || kind.split(/[./]/)[0] === driver));
  const [spec] = gpu ? vendors : [];
  if (spec === undefined) {
    const wanted = (capabilities ?? []).map((set) => `[${set.join(" ")}]`).join(" ");
    throw new EngineError("invalid", `could not select device driver "${driver}" with capabilities: [${wanted}]`);
  }
  if (count !== 0 && (ids?.length ?? 0) > 0) throw new EngineError("invalid", "cannot set both Count and DeviceIDs on device request");
  if (ids !== null && ids.length > 0) return ids.map((id) => (parseCdiName(id) === undefined ? `${spec.kind}=${id}` : id));
  const single = [...spec.devices.keys()].filter((name) => name !== "all");
  if (count < 0) return spec.devices.has("all") ? [`${spec.kind}=all`] : single.map((name) => `${spec.kind}=${name}`);
  if (count > single.length) throw new EngineError("invalid", `${count} devices of ${spec.kind} were asked for, and there are ${single.length}`);
  return single.slice(0, count).map((name) => `${spec.kind}=${name}`);
}

/** All specs; of a device in two of them the later directory's counts, so those come first. */
async function readSpecs(dirs: readonly string[]): Promise<CdiSpec[]> {
  const specs: CdiSpec[] = [];
  for (const dir of [...dirs].reverse()) {
    const names = await readdir(dir).catch((error: unknown) => {
      if (errnoOf(error) === "ENOENT") return [];
      throw error;
    });
    for (const name of names.sort()) if (/\.(json|ya?ml)$/.test(name)) specs.push(parseCdiSpec(await readSpec(join(dir, name)), join(dir, name)));
  }
  return specs;
}

async function readSpec(path: string): Promise<unknown> {
  if ((await stat(path)).size > MAX_FILE_BYTES) throw new EngineError("invalid", `invalid CDI spec ${path}: it is larger than ${MAX_FILE_BYTES} bytes`);
  const text = await readFile(path, "utf8");
  try {
    if (path.endsWith(".json")) return JSON.parse(text);
    const { parse } = await import("yaml");
    return parse(text, { maxAliasCount: 100 });
  } catch (error) {
    throw new EngineError("invalid", `invalid CDI spec ${path}: ${(error as Error).message.split("\n")[0]}`, { cause: error });
  }
}

async function gather(edits: readonly CdiEdits[]): Promise<CdiAdditions> {
  const nodes = edits.flatMap(({ deviceNodes }) => deviceNodes);
  const devices = await Promise.all(
    nodes.map(async ({ path, hostPath, permissions, fileMode, uid, gid }) => {
      const [node] = await resolveDevice(hostPath ?? path, path);
      if (node === undefined) throw new EngineError("invalid", `CDI device injection failed: no such device: ${hostPath ?? path}`);
      return {
        ...node,
        access: permissions ?? "rwm",
        ...(fileMode === undefined ? {} : { fileMode }),
        ...(uid === undefined ? {} : { uid }),
        ...(gid === undefined ? {} : { gid }),
      };
    }),
  );
  const wanted = edits.flatMap((edit) => edit.mounts);
  const mounts = wanted.map(({ hostPath, containerPath, type, options }) => ({ destination: containerPath, type, source: hostPath, options: [...options] }));
  const kinds = await Promise.all(wanted.map(({ hostPath }) => stat(hostPath).catch(() => undefined))); // missing: the mount itself says so
  const hooks: NonNullable<OciSpec["hooks"]> = {};
  for (const { kind, path, args, env, timeout } of edits.flatMap((edit) => edit.hooks))
    (hooks[kind] ??= []).push({ path, args: [...args], env: [...env], ...(timeout === undefined ? {} : { timeout }) });
  return {
    env: edits.flatMap(({ env }) => env),
    devices,
    mounts,
    files: wanted.filter((_, i) => kinds[i]?.isDirectory() === false).map(({ containerPath }) => containerPath),
    additionalGids: [...new Set(edits.flatMap((edit) => edit.additionalGids))],
    hooks: Object.keys(hooks).length === 0 ? undefined : hooks,
  };
}
