/** `run --explain`: the plan of a container that is not made. @module */
import { newId } from "#core/ids.ts";
import { explainPlan, planContainer, planToJson, resolveUser, seccompProgram, slots } from "#runtime/mod.ts";
import type { RootMount } from "#unionfs/mod.ts";
import { planHooksOf, withHooks } from "./container-hooks.ts";
import { joinedProcesses, specOf } from "./container-spec.ts";
import { planContainerFiles } from "./container-files.ts";
import type { EngineContext } from "./context.ts";
import { copiedFor, type Draft, draftContainer, releaseChoices } from "./create-container.ts";
import type { Containers } from "./mod.ts";

export async function explainContainer(ctx: EngineContext, request: Parameters<Containers["explain"]>[0], format: "text" | "json"): Promise<string> {
  const id = newId();
  try {
    return await explain(ctx, id, request, format);
  } finally {
    releaseChoices(ctx, id);
  }
}

async function explain(ctx: EngineContext, id: string, request: Parameters<Containers["explain"]>[0], format: "text" | "json"): Promise<string> {
  const facts = request.facts ?? ctx.facts;
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
    preparation: await planContainerFiles(ctx, record, {}),
    tty: record.config.Tty,
    seccomp: seccompProgram(spec.linux?.seccomp, facts),
    attachGate: false,
    files,
    id,
    ...withHooks(planHooksOf(ctx, spec, record)),
    ...(record.hostConfig.Init === true ? { initBinary: ctx.options.helperPath } : {}),
  });
  return format === "json" ? planToJson(plan) : explainPlan(plan);
}

/** The mounts that the driver would answer with: of a snapshot that is made for this question and dropped again. */
async function rootOf(ctx: EngineContext, { record, image }: Draft): Promise<RootMount> {
  if (record.hostConfig.WherryRootfs !== undefined) return { kind: "bind", source: record.hostConfig.WherryRootfs, readonly: false };
  const { driver } = ctx.layers;
  await driver.prepare(record.snapshot, image?.chainId, { ephemeral: record.hostConfig.AutoRemove, ...copiedFor(record) });
  try {
    return await driver.mounts(record.snapshot);
  } finally {
    await driver.remove(record.snapshot);
  }
}
