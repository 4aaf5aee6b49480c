/**
 * Whether image files can be given a user namespace's ids here: asked of the kernel once, with a snapshot of the storage driver's own.
 * @module
 */
import { randomBytes } from "node:crypto";
import { EngineError, isEngineError } from "#core/errors.ts";
import { PlanError } from "#linux/helper.ts";
import { planMappedRoot } from "#runtime/mod.ts";
import type { EngineContext } from "./context.ts";
import { PRIVATE_RANGE } from "./id-ranges.ts";

const answers = new WeakMap<EngineContext["layers"], Promise<string | undefined>>();

/** Why not; undefined = it can be done. */
export function whyNoIdmap(ctx: EngineContext): Promise<string | undefined> {
  let answer = answers.get(ctx.layers);
  if (answer === undefined) {
    answer = ask(ctx);
    answers.set(ctx.layers, answer);
    answer.catch(() => answers.delete(ctx.layers));
  }
  return answer;
}

/** @throws EngineError "unsupported" with the reason */
export async function requireIdmap(ctx: EngineContext): Promise<void> {
  const why = await whyNoIdmap(ctx);
  if (why === undefined) return;
  throw new EngineError(
    "unsupported",
    `a container with a user namespace cannot be made with the storage driver ${ctx.layers.driver.name} on this host: ${why}`,
    {
      hint: "run it with --userns=host, or on Linux 6.13 or newer with overlay2 on ext4, xfs or btrfs",
    },
  );
}

async function ask({ facts, helper, layers: { driver } }: EngineContext): Promise<string | undefined> {
  if (!facts.namespaces.includes("user")) return "this kernel has no user namespaces";
  const key = `idmap-probe-${randomBytes(8).toString("hex")}`;
  await driver.prepare(key, undefined, { ephemeral: true });
  try {
    await helper.call(planMappedRoot(await driver.mounts(key), facts, { uids: [PRIVATE_RANGE], gids: [PRIVATE_RANGE] }));
    return undefined;
  } catch (error) {
    if (error instanceof PlanError) {
      const step = error.plan.steps[error.step];
      return `${step?.op ?? "a step"} was answered with ${error.errno} (its filesystem may have no id-mapped mounts)`;
    }
    if (isEngineError(error, "unsupported")) return error.message;
    throw error;
  } finally {
    await driver.remove(key);
  }
}
