/**
 * Who `--user` is in a container: reads the container's own passwd and group files, once per image.
 * @module
 */
import { lstat } from "node:fs";
import type { Container } from "#container/container.ts";
import { O } from "#linux/flags.ts";
import type { Reports } from "#linux/helper.ts";
import { NO_SLOT, type Plan } from "#linux/plan.ts";
import { planReadRootFiles, type ResolvedUser, resolveUser, slots } from "#runtime/mod.ts";
import type { RootMount } from "#unionfs/mod.ts";
import type { EngineContext } from "./context.ts";

/** /etc/passwd and /etc/group; "" = missing. */
export interface RootFiles {
  readonly passwd: string;
  readonly group: string;
}

const files = [
  { path: "etc/passwd", tag: 1, max: 1 << 20 },
  { path: "etc/group", tag: 2, max: 1 << 20 },
] as const;
const MAX_CACHED = 256;

/** By the top of an image's chain, whose content never changes. */
export class RootFileCache {
  readonly #byChain = new Map<string, RootFiles>();

  get(chain: string): RootFiles | undefined {
    return this.#byChain.get(chain);
  }

  set(chain: string, found: RootFiles): void {
    if (this.#byChain.size >= MAX_CACHED) this.#byChain.clear();
    this.#byChain.set(chain, found);
  }
}

function fromReports(reports: Reports): RootFiles {
  const text = (tag: number) => Buffer.from(reports.get(tag) ?? []).toString("utf8");
  return { passwd: text(1), group: text(2) };
}

/** The files as they are in the image, unless the container has changed them or mounts something there. */
function fromImage(container: Container): boolean {
  return !container.record.mounts.some(({ Destination: at }) => at === "/etc" || at === "/etc/passwd" || at === "/etc/group");
}

/** True when the snapshot's own layer holds no other version of a file (nor of the directory above it). */
async function unchanged(root: RootMount): Promise<boolean> {
  if (root.kind !== "overlay" || root.upper === undefined) return false;
  const upper = root.upper;
  const found = await Promise.all(files.map(({ path }) => isThere(`${upper}/${path}`)));
  return !found.includes(true);
}

/** By callback: a promise's rejection costs more than the question. */
function isThere(path: string): Promise<boolean> {
  return new Promise((resolve) => lstat(path, (error) => resolve(error === null)));
}

/** Who has been asked for, by the files that say it. */
const resolved = new WeakMap<RootFiles, Map<string, ResolvedUser>>();

function resolveIn(found: RootFiles, user: string, groupAdd: readonly string[] = []): ResolvedUser {
  const key = [user, ...groupAdd].join("\n");
  const users = resolved.get(found) ?? new Map<string, ResolvedUser>();
  let who = users.get(key);
  if (who !== undefined) return who;
  who = resolveUser(user, found.passwd, found.group, groupAdd);
  if (users.size >= MAX_CACHED) users.clear();
  resolved.set(found, users.set(key, who));
  return who;
}

/** `fresh`: the snapshot has never been written to. */
export async function userOf(ctx: EngineContext, container: Container, root: RootMount, chain: string | undefined, fresh: boolean): Promise<ResolvedUser> {
  const { config, hostConfig } = container.record;
  const cacheable = chain !== undefined && fromImage(container) && (fresh || (await unchanged(root)));
  let found = cacheable ? ctx.rootFiles.get(chain) : undefined;
  if (found === undefined) {
    found = fromReports(await ctx.helper.call(planReadRootFiles(root, files, ctx.facts)));
    if (cacheable) ctx.rootFiles.set(chain, found);
  }
  return resolveIn(found, config.User, hostConfig.GroupAdd ?? []);
}

/** Who a user is in an image that no container has changed. */
export async function userOfImage(ctx: EngineContext, root: RootMount, chain: string | undefined, user: string): Promise<ResolvedUser> {
  let found = chain === undefined ? undefined : ctx.rootFiles.get(chain);
  if (found === undefined) {
    found = fromReports(await ctx.helper.call(planReadRootFiles(root, files, ctx.facts)));
    if (chain !== undefined) ctx.rootFiles.set(chain, found);
  }
  return resolveIn(found, user);
}

/** The same for one more process of a running container: the files as its processes see them now. */
export async function userOfExec(ctx: EngineContext, container: Container, user: string): Promise<ResolvedUser> {
  const chain = container.record.imageId === "" ? undefined : (await ctx.images.find(container.record.imageId))?.chainId;
  const cached = chain === undefined || !fromImage(container) ? undefined : ctx.rootFiles.get(chain);
  const same = cached !== undefined && (await unchanged(await ctx.layers.driver.mounts(container.record.snapshot)));
  return resolveIn(same ? cached : await readFromProcess(ctx, container), user, container.record.hostConfig.GroupAdd ?? []);
}

async function readFromProcess(ctx: EngineContext, { state }: Container): Promise<RootFiles> {
  const host = { where: "host" } as const;
  const plan: Plan = {
    steps: [
      { op: "pidfd_open", pid: state.pid, starttime: BigInt(state.startTime), out: slots.free, ...host, why: "it is still that process" },
      {
        op: "openat",
        dir: NO_SLOT,
        path: `/proc/${state.pid}/root`,
        flags: O.PATH | O.DIRECTORY,
        mode: 0,
        out: slots.root,
        ...host,
        why: "the container's root directory",
      },
      ...files.map((file) => ({ op: "report", dir: slots.root, ...file, ...host, why: "the file as the container's processes see it" }) as const),
    ],
  };
  return fromReports(await ctx.helper.call(plan));
}
