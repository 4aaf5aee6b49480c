/**
 * A container's tree for `cp`: a guarded file tree in its root, with its mounts, whether it runs or not.
 * @module
 */
import { stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { Container } from "#container/container.ts";
import { isRunning } from "#container/state.ts";
import { errnoOf } from "#core/errors.ts";
import { toHost } from "#core/id-mappings.ts";
import type { FileTree } from "#linux/file-tree.ts";
import { PlanError } from "#linux/helper.ts";
import { bindMappings, planRunningTree, planStoppedTree, renderPlanError, seenInside, type TreeMount } from "#runtime/mod.ts";
import { shiftedTree } from "#unionfs/shifted-tree.ts";
import { emptyDirectory } from "./chain-tree.ts";
import type { EngineContext } from "./context.ts";
import { userOf } from "./resolve-user.ts";
import { rootOf } from "./start-container.ts";

export interface ContainerTree {
  /** Owners are as the container counts them. */
  readonly tree: FileTree;
  close(): Promise<void>;
}

/** A stopped container cannot be started or removed until the tree is closed: two overlays must not share a writable layer. */
export async function openContainerTree(ctx: EngineContext, container: Container): Promise<ContainerTree> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await openNow(ctx, container);
    } catch (error) {
      // It has just ended, and is about to be known as stopped.
      if (!(error instanceof PlanError && error.errno === "ESRCH" && attempt < ATTEMPTS))
        throw error instanceof PlanError ? renderPlanError(error, { action: "copy" }) : error;
      await sleep(ATTEMPT_MS);
    }
  }
}

const ATTEMPTS = 40;
const ATTEMPT_MS = 25;

async function openNow(ctx: EngineContext, container: Container): Promise<ContainerTree> {
  const release = await take(container);
  try {
    const running = isRunning(container.state);
    const { idMappings, ownersOnDisk } = container.record;
    const shifted = running || ownersOnDisk !== undefined ? idMappings : undefined;
    const owner = shifted && { uid: toHost(shifted.uids, 0)!, gid: toHost(shifted.gids, 0)! }; // a map without id 0 is none
    const plan = running
      ? planRunningTree({ pid: container.state.pid, startTime: BigInt(container.state.startTime), root: owner })
      : planStoppedTree({
          root: await rootOf(ctx, container),
          facts: ctx.facts,
          mounts: await mountsOf(ctx, container),
          owner,
          at: await emptyDirectory(ctx),
        });
    const tree = await ctx.helper.openTree(`container ${container.record.name}`, plan);
    if (running) release();
    return {
      tree: shifted === undefined ? tree : shiftedTree(tree, shifted),
      close: async () => {
        try {
          await tree.close();
        } finally {
          release();
        }
      },
    };
  } catch (error) {
    release();
    throw error;
  }
}

/** Takes the container's mutex; it is given back by the function (more than once does no harm). */
function take(container: Container): Promise<() => void> {
  return new Promise((taken, failed) => {
    container.mutex.run(() => new Promise<void>((release) => taken(release))).catch(failed);
  });
}

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Volumes, binds and the engine's own files, shallow ones first. A source that is missing now is left out: the container could not start either. */
async function mountsOf(ctx: EngineContext, container: Container): Promise<TreeMount[]> {
  const { record } = container;
  const { idMappings: userns, ownersOnDisk } = record;
  // Beside a root with the host's ids everything has those, as in a container that runs.
  const asOwn = () => (ownersOnDisk === "root" ? userns : undefined);
  const user = record.mounts.some(({ Idmap }) => Idmap !== undefined)
    ? await userOf(ctx, container, await rootOf(ctx, container), undefined, false)
    : { uid: 0, gid: 0 };
  const own: [source: string, destination: string][] = [
    [record.hostnamePath, "/etc/hostname"],
    [record.hostsPath, "/etc/hosts"],
    [record.resolvConfPath, "/etc/resolv.conf"],
  ];
  const taken = new Set(record.mounts.map((mount) => mount.Destination));
  const wanted = [
    ...own
      .filter(([source, path]) => source !== "" && !taken.has(path) && !taken.has("/etc"))
      .map(([source, destination]) => ({ source, destination, readonly: false, seen: asOwn })),
    ...record.mounts
      .filter(({ Type }) => Type !== "tmpfs")
      .map(({ Type, Source, Destination, RW, Idmap }) => ({
        source: Source,
        destination: Destination,
        readonly: !RW,
        seen: (owner: Owner) => {
          if (Type !== "bind") return Type === "volume" ? asOwn() : undefined;
          if (!ctx.facts.idmappedMounts) return undefined;
          if (ownersOnDisk === undefined) return seenInside(Idmap, { owner, user, userns });
          return Idmap === undefined ? undefined : bindMappings(Idmap, { owner, user, userns });
        },
      })),
  ];
  const found = await Promise.all(
    wanted.map(async (mount) => {
      const info = await stat(mount.source).catch((error: unknown) => {
        if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return undefined;
        throw error;
      });
      if (info === undefined) return [];
      const { seen, ...rest } = mount;
      const idmap = seen({ uid: info.uid, gid: info.gid });
      const mapped = idmap !== undefined && idmap.uids.length > 0 && idmap.gids.length > 0;
      return [{ ...rest, file: !info.isDirectory(), ...(mapped ? { idmap } : {}) }];
    }),
  );
  const depth = (mount: TreeMount) => mount.destination.split("/").filter(Boolean).length;
  return found.flat().sort((a, b) => depth(a) - depth(b));
}
