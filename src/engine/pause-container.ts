/** `pause` and `unpause`: the cgroup's freezer. @module */
import type { CgroupPaths } from "#cgroup/mod.ts";
import type { Container } from "#container/container.ts";
import { isRunning } from "#container/state.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import { type EngineContext, publishContainerEvent } from "./context.ts";
import { endHealthChecks, resumeHealthChecks } from "./health-check.ts";

export async function pauseContainer(ctx: EngineContext, name: string): Promise<void> {
  const container = ctx.registry.get(name);
  await container.mutex.run(async () => {
    const { status } = container.state;
    if (status === "paused") throw new EngineError("conflict", `container ${name} is already paused`);
    if (status === "restarting") throw new EngineError("conflict", `container ${name} is restarting, wait until the container is running`);
    const cgroup = runningCgroup(container, name);
    await unlessEnded(name, ctx.cgroups.freeze(cgroup));
    endHealthChecks(container);
    change(ctx, container, "paused", "pause");
  });
}

export async function unpauseContainer(ctx: EngineContext, name: string): Promise<void> {
  const container = ctx.registry.get(name);
  await container.mutex.run(async () => {
    if (container.state.status !== "paused") throw new EngineError("conflict", `Container ${name} is not paused`);
    await unlessEnded(name, ctx.cgroups.thaw(runningCgroup(container, name)));
    change(ctx, container, "running", "unpause");
    resumeHealthChecks(ctx, container);
  });
}

function runningCgroup(container: Container, name: string): CgroupPaths {
  if (!isRunning(container.state) || container.record.cgroup === undefined) throw notRunning(name);
  return container.record.cgroup;
}

function notRunning(name: string, cause?: unknown): EngineError {
  return new EngineError("conflict", `container ${name} is not running`, { cause });
}

/** The monitor removes the cgroup soon after the end, of which the engine may not have heard yet. */
async function unlessEnded(name: string, work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    throw isEngineError(error, "not-found") ? notRunning(name, error) : error;
  }
}

/** It may have ended while its cgroup was written to: then its state is the end's. */
function change(ctx: EngineContext, container: Container, status: "paused" | "running", action: string): void {
  container.setState({ ...container.state, status });
  ctx.background.add(`storing container ${container.id}`, ctx.records.save(container.record));
  publishContainerEvent(ctx, container, action);
}
