/** `run --explain`: the plan of a container that is not made. @module */
import { join } from "node:path";
import { newId } from "#core/ids.ts";
import { explainPlan, planContainer, planToJson, resolveUser, seccompProgram, slots } from "#runtime/mod.ts";
import type { RootMount } from "#unionfs/mod.ts";
import { joinedProcesses, specOf } from "./container-spec.ts";
import type { EngineContext } from "./context.ts";
import { type Draft, draftContainer } from "./create-container.ts";
import type { Containers } from "./mod.ts";

export async function explainContainer(ctx: EngineContext, request: Parameters<Containers["explain"]>[0], format: "text" | "json"): Promise<string> {
  const facts = request.facts ?? ctx.facts;
  const id = newId();
  const draft = await draftContainer({ ...ctx, facts }, id, "explained", request);
  const { record } = draft;
  // Users of the image are read at start; here the numbers are what they mostly are.
  const user = resolveUser(/^[0-9:]*$/.test(record.config.User) ? record.config.User : "", "", "", []);
  const { spec, files } = await specOf({ ...ctx, facts }, record, { user, join: joinedProcesses(ctx, record.hostConfig) });
  const plan = planContainer({
    spec,
    root: await rootOf(ctx, draft),
    facts,
    cgroup: ctx.cgroups.plan(record.hostConfig.CgroupParent, id, spec.linux?.resources ?? {}, slots.cgroup),
    network: [],
    tty: record.config.Tty,
    seccomp: seccompProgram(spec.linux?.seccomp, facts),
    attachGate: false,
    files,
    id,
    ...(record.hostConfig.Init === true ? { initBinary: ctx.options.helperPath } : {}),
  });
  return format === "json" ? planToJson(plan) : explainPlan(plan);
}

/** The image's layers, and a writable one where it would be. */
async function rootOf(ctx: EngineContext, { record, image }: Draft): Promise<RootMount> {
  if (record.hostConfig.WherryRootfs !== undefined) return { kind: "bind", source: record.hostConfig.WherryRootfs, readonly: false };
  const own = join(ctx.options.dataRoot, ctx.layers.driver.name, record.snapshot);
  const layers: RootMount = image?.chainId === undefined ? { kind: "bind", source: own, readonly: false } : await ctx.layers.driver.mounts(image.chainId);
  return layers.kind === "overlay" ? { ...layers, upper: join(own, "diff"), work: join(own, "work") } : { kind: "bind", source: own, readonly: false };
}
