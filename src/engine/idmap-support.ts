/**
 * Whether files can be shown with a user namespace's ids here: asked of the kernel once, with a snapshot of the storage driver's own and the directory that volumes lie in. Where they
 * cannot, a container gets a private copy of its image's files, which have its ids on disk.
 * @module
 * @see docs/adr/0050-private-copies.md
 */
import { randomBytes } from "node:crypto";
import type { ContainerRecord } from "#container/mod.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import { PlanError } from "#linux/helper.ts";
import { planMappedRoot } from "#runtime/mod.ts";
import type { RootMount } from "#unionfs/mod.ts";
import type { EngineContext } from "./context.ts";
import { PRIVATE_RANGE } from "./id-ranges.ts";

/** Why not; undefined = it can be done. */
export interface IdmapSupport {
  readonly root: string | undefined;
  /** Of volumes and the engine's own files. */
  readonly volumes: string | undefined;
}

const answers = new WeakMap<EngineContext["layers"], Promise<IdmapSupport>>();

export function idmapSupport(ctx: EngineContext): Promise<IdmapSupport> {
  let answer = answers.get(ctx.layers);
  if (answer === undefined) {
    answer = ask(ctx, (plan) => ctx.helper.call(plan));
    answers.set(ctx.layers, answer);
    answer.catch(() => answers.delete(ctx.layers));
  }
  return answer;
}

/**
 * What a container with a user namespace has of its own where mounts cannot map owners: goes into its record, and a sentence about it. Undefined: nothing, or it has no user namespace.
 * @param options.elsewhere the facts of `ctx` are another host's (`--explain`): what they say counts, this kernel is not asked
 * @throws EngineError "unsupported" on a kernel without user namespaces
 */
export async function privateCopyFor(
  ctx: EngineContext,
  { idMappings, snapshot }: Pick<ContainerRecord, "idMappings" | "snapshot">,
  { elsewhere }: { readonly elsewhere: boolean },
): Promise<{ readonly ownersOnDisk: NonNullable<ContainerRecord["ownersOnDisk"]>; readonly warning: string } | undefined> {
  if (idMappings === undefined || snapshot === "") return undefined;
  if (!ctx.facts.namespaces.includes("user"))
    throw new EngineError("unsupported", "a container with a user namespace cannot be made: this kernel has no user namespaces", {
      hint: "run it with --userns=host",
    });
  const { root, volumes } = elsewhere ? await ask(ctx, async () => undefined) : await idmapSupport(ctx);
  if (root === undefined) return undefined;
  const also = volumes === undefined ? "" : ", and what it writes to volumes belongs to its ids, too";
  return {
    ownersOnDisk: volumes === undefined ? "root" : "all",
    warning: `This host cannot show the image's files with the container's ids (${root}): the container has a private copy of them, which takes time and space${also}.`,
  };
}

async function ask(ctx: EngineContext, perform: (plan: ReturnType<typeof planMappedRoot>) => Promise<unknown>): Promise<IdmapSupport> {
  const { facts, layers, options } = ctx;
  const { driver } = layers;
  const why = async (root: RootMount): Promise<string | undefined> => {
    try {
      await perform(planMappedRoot(root, facts, { uids: [PRIVATE_RANGE], gids: [PRIVATE_RANGE] }));
      return undefined;
    } catch (error) {
      if (error instanceof PlanError) {
        const step = error.plan.steps[error.step];
        return `${step?.op ?? "a step"} was answered with ${error.errno} (its filesystem may have no id-mapped mounts)`;
      }
      if (isEngineError(error, "unsupported")) return error.message;
      throw error;
    }
  };
  const key = `idmap-probe-${randomBytes(8).toString("hex")}`;
  await driver.prepare(key, undefined, { ephemeral: true });
  try {
    return { root: await why(await driver.mounts(key)), volumes: await why({ kind: "bind", source: options.dataRoot, readonly: false }) };
  } finally {
    await driver.remove(key);
  }
}
