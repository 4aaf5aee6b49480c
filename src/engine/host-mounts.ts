/**
 * Sources of a container's mounts that must be mounted on the host first: volumes of a filesystem (`type=nfs`, `type=tmpfs`, a block device) and images (`--mount type=image`).
 * Mounted when the first container that uses one starts, unmounted after the last one's end. Which containers use one is not stored: a starting engine sees which of
 * them run, and unmounts the rest.
 * @module
 */
import { mkdir, readFile, realpath, rmdir } from "node:fs/promises";
import { join } from "node:path";
import type { Container } from "#container/container.ts";
import type { ContainerRecord, MountPoint } from "#container/mod.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import { MNT_DETACH, MS } from "#linux/flags.ts";
import { PlanError } from "#linux/helper.ts";
import { parseMountinfo } from "#linux/mountinfo.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";
import { parseMountOptions } from "#runtime/mount-options.ts";
import { withServerAddress } from "#volume/mod.ts";
import type { RootMount } from "#unionfs/mod.ts";
import type { EngineContext } from "./context.ts";
import { copyUp } from "./copy-up.ts";

interface HostMount {
  readonly target: string;
  readonly steps: () => Promise<Step[]>;
  /** "volume data", for messages. */
  readonly what: string;
  readonly point: MountPoint;
}

/** Containers that use a target, and the work under way at it. */
class HostMounts {
  readonly users = new Map<string, Set<string>>();
  readonly #last = new Map<string, Promise<unknown>>();

  /** One at a time for each target: a server that does not answer holds up only those who want its volume. */
  run<T>(target: string, work: () => Promise<T>): Promise<T> {
    const next = (this.#last.get(target) ?? Promise.resolve()).then(work, work);
    this.#last.set(target, next);
    const forget = () => {
      if (this.#last.get(target) === next) this.#last.delete(target);
    };
    next.then(forget, forget);
    return next;
  }
}

const tables = new WeakMap<EngineContext, HostMounts>();

function tableOf(ctx: EngineContext): HostMounts {
  const table = tables.get(ctx) ?? new HostMounts();
  tables.set(ctx, table);
  return table;
}

/** Directory of image mounts. */
export function imageMountDirectory({ options }: EngineContext): string {
  return join(options.execRoot, "images");
}

/** Where the image of a container's nth mount is mounted. */
export function imageMountTarget(ctx: EngineContext, containerId: string, index: number): string {
  return join(imageMountDirectory(ctx), `${containerId.slice(0, 24)}-${index}`);
}

/** Before a start. @throws EngineError "kernel" with what the mount was refused with */
export async function mountSources(ctx: EngineContext, { record }: Container): Promise<void> {
  for (const mount of hostMounts(ctx, record)) {
    await tableOf(ctx).run(mount.target, async () => {
      const users = tableOf(ctx).users.get(mount.target) ?? new Set();
      if (!(await isMounted(mount.target))) {
        await mkdir(mount.target, { recursive: true, mode: 0o700 });
        await perform(ctx, mount.what, await mount.steps());
        if (mount.point.Type === "volume" && mount.point.CopyUp === true) await copyUp(ctx, record, mount.point);
      }
      users.add(record.id);
      tableOf(ctx).users.set(mount.target, users);
      if (mount.point.Type === "image" && mount.point.Source !== mount.target) await checkSubpath(mount);
    });
  }
}

/** The image is not changed by anybody while it is looked at. */
async function checkSubpath({ point, what }: HostMount): Promise<void> {
  const real = await realpath(point.Source).catch((cause: unknown) => {
    throw new EngineError("invalid", `${what}: there is no such path in it (${errnoOf(cause)})`, { cause });
  });
  if (real !== point.Source) throw new EngineError("invalid", `${what}: the path in it leads over a symbolic link, which is not followed`);
}

/** After an end, or a failed start. */
export async function unmountSources(ctx: EngineContext, record: ContainerRecord): Promise<void> {
  for (const { target, what, point } of hostMounts(ctx, record)) {
    await tableOf(ctx).run(target, async () => {
      const users = tableOf(ctx).users.get(target);
      if (users?.delete(record.id) !== true || users.size > 0) return;
      await unmount(ctx, target, what);
      if (point.Type === "image") await rmdir(target);
    });
  }
}

/** At the engine's start: `running` use what they use; the rest is a crash's. */
export async function restoreHostMounts(ctx: EngineContext, running: readonly Container[]): Promise<void> {
  const { users } = tableOf(ctx);
  for (const { record } of running)
    for (const { target } of hostMounts(ctx, record)) users.set(target, (users.get(target) ?? new Set<string>()).add(record.id));
  const ours = [`${imageMountDirectory(ctx)}/`, `${join(ctx.options.dataRoot, "volumes")}/`];
  for (const { mountPoint } of parseMountinfo(await readFile("/proc/self/mountinfo", "utf8")))
    if (ours.some((prefix) => mountPoint.startsWith(prefix)) && !users.has(mountPoint)) await unmount(ctx, mountPoint, mountPoint);
}

function* hostMounts(ctx: EngineContext, record: ContainerRecord): Generator<HostMount> {
  for (const [index, point] of record.mounts.entries()) {
    if (point.Type === "image") {
      const target = imageMountTarget(ctx, record.id, index);
      const image = point.Image ?? "";
      yield { target, point, what: `mounting image ${point.Name ?? image}`, steps: async () => imageSteps(await imageRoot(ctx, image), target) };
    }
    const backing =
      point.Type === "volume" && point.Name !== undefined && ctx.volumes.find(point.Name) !== undefined ? ctx.volumes.backing(point.Name) : undefined;
    if (backing?.kind !== "mount") continue;
    const { fstype, device, options } = backing;
    const target = point.Source;
    const why = "the filesystem that the volume's options name";
    const what = `mounting volume ${point.Name} (${fstype} ${device})`;
    const steps = async (): Promise<Step[]> => {
      const at = await withServerAddress(what, { fstype, device, options });
      const { flags, data } = parseMountOptions(at.options);
      return [{ op: "mount", where: "host", source: at.device, dir: NO_SLOT, path: target, fstype, flags, data, why }];
    };
    yield { target, point, what, steps };
  }
}

async function imageRoot(ctx: EngineContext, image: string): Promise<RootMount> {
  const { chainId } = await ctx.images.get(image);
  if (chainId === undefined) throw new EngineError("invalid", `image ${image} has no layers`);
  return ctx.layers.driver.mounts(chainId);
}

/** Read-only. */
function imageSteps(root: RootMount, target: string): Step[] {
  const why = "the image's files, for a mount of the container";
  const at = { op: "mount", where: "host", dir: NO_SLOT, path: target, why } as const;
  const bind = (source: string): Step[] => [
    { ...at, source, fstype: "", flags: MS.BIND, data: "" },
    { ...at, source: "none", fstype: "", flags: MS.BIND | MS.REMOUNT | MS.RDONLY | MS.NOSUID | MS.NODEV, data: "" },
  ];
  if (root.kind === "bind") return bind(root.source);
  if (root.kind !== "overlay" || root.images?.some((image) => image !== undefined) === true)
    throw new EngineError("unsupported", "image mounts need a storage driver whose layers are directories", { hint: "use overlay2" });
  const [only, ...more] = root.lower;
  if (only !== undefined && more.length === 0) return bind(only);
  return [
    { op: "chdir", where: "host", path: root.linkDir, why: "layers are named by short relative links" },
    { ...at, source: "overlay", fstype: "overlay", flags: MS.RDONLY | MS.NOSUID | MS.NODEV, data: `lowerdir=${root.links.join(":")}` },
  ];
}

async function perform(ctx: EngineContext, what: string, steps: readonly Step[]): Promise<void> {
  try {
    await ctx.helper.call({ steps });
  } catch (error) {
    if (!(error instanceof PlanError)) throw error;
    throw new EngineError("kernel", `${what}: ${error.errno}`, {
      cause: error,
      hint: "the kernel's log (dmesg) may say more",
      details: { errno: error.errno },
    });
  }
}

/** Detached: what still has a file open there keeps it, and nobody waits for that. */
async function unmount(ctx: EngineContext, target: string, what: string): Promise<void> {
  const why = "nobody uses it any more";
  await perform(ctx, what.replace(/^mounting/, "unmounting"), [
    { op: "umount", where: "host", dir: NO_SLOT, path: target, flags: MNT_DETACH, why, ignore: ["EINVAL", "ENOENT"] },
  ]);
}

async function isMounted(target: string): Promise<boolean> {
  return parseMountinfo(await readFile("/proc/self/mountinfo", "utf8")).some(({ mountPoint }) => mountPoint === target);
}
