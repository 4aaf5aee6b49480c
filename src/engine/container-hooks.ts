/**
 * Hooks of CDI devices: programs of the host that prepare a container for a device. Those before its program are steps of its plan; the two kinds that come
 * after a start and after an end are run here.
 *
 * A hook expects an OCI bundle: a directory with `config.json` and the root. It lies in the container's own directory; the root appears in it for
 * createContainer hooks only, in the container's mount namespace.
 * @module
 */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ContainerRecord } from "#container/mod.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { OciSpec } from "#core/runtime-spec.ts";
import { errnoMessage } from "#linux/errno.ts";
import { PlanError } from "#linux/helper.ts";
import { hookOp, hookRuns, type PlanHooks } from "#runtime/mod.ts";
import type { EngineContext } from "./context.ts";

const OCI_VERSION = "1.2.0";

function bundleOf(ctx: EngineContext, id: string): string {
  return join(ctx.records.directory(id), "bundle");
}

/** What a container's plan needs to run the hooks of its spec; undefined = it has none. Pure. @throws EngineError "unsupported" with a user namespace */
export function planHooksOf(ctx: EngineContext, spec: OciSpec, { id, idMappings }: ContainerRecord): PlanHooks | undefined {
  if (spec.hooks === undefined) return undefined;
  const bundle = bundleOf(ctx, id);
  const creating = { ociVersion: OCI_VERSION, id, status: "creating", bundle };
  const createContainer = hookRuns(spec, "createContainer", creating);
  if (createContainer.length > 0 && idMappings !== undefined)
    throw new EngineError("unsupported", "a CDI device with createContainer hooks cannot be given to a container with a user namespace", {
      hint: "its root could not reach the directory that such hooks work on; use --userns=host",
    });
  return {
    createRuntime: [...hookRuns(spec, "prestart", creating), ...hookRuns(spec, "createRuntime", creating)],
    createContainer,
    startContainer: hookRuns(spec, "startContainer", { ...creating, status: "created" }),
    rootAt: join(bundle, "rootfs"),
  };
}

/** For an input whose `hooks` may be missing, and not undefined. */
export function withHooks(hooks: PlanHooks | undefined): { readonly hooks?: PlanHooks } {
  return hooks === undefined ? {} : { hooks };
}

/** Before the plan is performed. */
export async function writeBundle(ctx: EngineContext, spec: OciSpec, id: string): Promise<void> {
  const bundle = bundleOf(ctx, id);
  await mkdir(join(bundle, "rootfs"), { recursive: true, mode: 0o700 });
  await writeFile(join(bundle, "config.json"), JSON.stringify({ ...spec, root: { ...spec.root, path: "rootfs" } }), { mode: 0o600 });
}

/** A failure is told to the log, and the others run (runtime.md "Lifecycle"). */
async function runAnyway(
  ctx: EngineContext,
  spec: OciSpec,
  kind: "poststart" | "poststop",
  { id, name, pid }: { id: string; name: string; pid: number },
): Promise<void> {
  const status = kind === "poststart" ? "running" : "stopped";
  for (const run of hookRuns(spec, kind, { ociVersion: OCI_VERSION, id, status, bundle: bundleOf(ctx, id) }, pid)) {
    try {
      await ctx.helper.call({ steps: [{ ...hookOp(run), where: "host", why: `a ${kind} hook of a CDI device` }] });
    } catch (error) {
      if (!(error instanceof PlanError)) throw error;
      ctx.log("warn", `the ${kind} hook ${run.path} of ${name} failed: ${errnoMessage(error.errno)}`);
    }
  }
}

export async function afterStart(ctx: EngineContext, spec: OciSpec, record: ContainerRecord, pid: number): Promise<void> {
  if (spec.hooks !== undefined) await runAnyway(ctx, spec, "poststart", { id: record.id, name: record.name, pid });
}

/** What hooks the container was started with is in its bundle, whoever started it. The bundle goes. */
export async function afterEnd(ctx: EngineContext, { id, name, hostConfig }: ContainerRecord): Promise<void> {
  if ((hostConfig.DeviceRequests?.length ?? 0) === 0) return;
  const bundle = bundleOf(ctx, id);
  let text: string;
  try {
    text = await readFile(join(bundle, "config.json"), "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return;
    throw error;
  }
  await runAnyway(ctx, JSON.parse(text) as OciSpec, "poststop", { id, name, pid: 0 }); // written by us
  await rm(bundle, { recursive: true, force: true });
}
