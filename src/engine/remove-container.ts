/**
 * `rm`, and the end of a `--rm` container.
 * @module
 */
import type { Container } from "#container/container.ts";
import { EngineError } from "#core/errors.ts";
import { isActive, isRunning } from "#container/state.ts";
import { endAll } from "./attach-stream.ts";
import { type EngineContext, monitorFiles, publishContainerEvent } from "./context.ts";
import { endLogKeeper } from "./keep-log.ts";
import { killAndWait } from "./stop-container.ts";

export async function removeContainer(ctx: EngineContext, name: string, options: { readonly force: boolean; readonly volumes: boolean }): Promise<void> {
  const container = ctx.registry.get(name);
  const { record } = container;
  if (container.removing) throw new EngineError("conflict", `removal of container ${record.id} is already in progress`);
  if (isActive(record.state) && !options.force) {
    const { status } = record.state;
    const advice =
      status === "paused" ? "container is paused and must be unpaused first" : `container is ${status}: stop the container before removing or force remove`;
    throw new EngineError("conflict", `cannot remove container "/${record.name}": ${advice}`);
  }
  container.removing = true;
  try {
    if (isActive(record.state)) {
      await killAndWait(ctx, container);
      // Who removes what runs may look at once whether all of it is gone.
      await container.clearLast?.();
    }
    await container.mutex.run(() => removeLocked(ctx, container, options.volumes));
  } finally {
    container.removing = false;
  }
}

/** A container that does not run, with its mutex held. What is on disk goes before the answer; only the deletion of its files is left for later. */
async function removeLocked(ctx: EngineContext, container: Container, volumes: boolean): Promise<void> {
  if (container.removed) return;
  if (isRunning(container.state)) throw new EngineError("conflict", `cannot remove container "/${container.record.name}": could not kill container`);
  const before = container.state;
  container.setState({ ...before, status: "removing" });
  try {
    await discardFiles(ctx, container, volumes);
  } catch (error) {
    container.setState({ ...before, status: "dead", dead: true, error: (error as Error).message });
    throw error;
  }
  forget(ctx, container);
}

/** `--rm`: whoever waits is answered at once; should the engine die before the files are gone, its next start removes them. */
export async function removeEnded(ctx: EngineContext, container: Container, free: () => Promise<void> = async () => undefined): Promise<void> {
  container.removing = true;
  // What others could trip over goes first: a port, an address, a volume's name.
  const early = container.record.hostConfig.NetworkMode !== "none";
  if (early) await free();
  if (container.record.mounts.some((m) => m.Anonymous === true)) await removeVolumes(ctx, container);
  forget(ctx, container);
  const rest = async () => {
    // What the waiters have to do comes first: the command's answer goes out in this turn.
    await new Promise((resolve) => setImmediate(resolve));
    if (!early) await free();
    await discardFiles(ctx, container, false);
  };
  ctx.background.add(`removing container ${container.id}`, rest());
}

/** Takes it out of memory: its name is free, its waiters are told. */
function forget(ctx: EngineContext, container: Container): void {
  container.restart?.cancel.abort();
  container.restart = undefined;
  ctx.registry.delete(container);
  ctx.execs.dropContainer(container);
  endAll(ctx.attaches.take(container.id)); // who attached for a start that never came
  container.notifyRemoved();
  publishContainerEvent(ctx, container, "destroy");
}

async function discardFiles(ctx: EngineContext, container: Container, volumes: boolean): Promise<void> {
  const { record } = container;
  const { socketPath, pidPath, exitPath, networkPath, programSocket } = monitorFiles(ctx.options, record.id);
  await endLogKeeper(container);
  if (volumes) await removeVolumes(ctx, container);
  // Whichever a crash leaves, the next start removes: a snapshot that no record names, or a container without its snapshot (as one that `rm` could not remove).
  const removed = record.snapshot === "" ? undefined : ctx.layers.driver.remove(record.snapshot);
  const [directory] = await Promise.all([ctx.records.discard(record.id), removed]);
  ctx.leftovers.add([socketPath, pidPath, exitPath, networkPath, programSocket], directory);
}

/** Its anonymous volumes, unless another container uses one. */
async function removeVolumes(ctx: EngineContext, container: Container): Promise<void> {
  for (const { Name: name, Anonymous: anonymous } of container.record.mounts) {
    if (anonymous !== true || name === undefined) continue;
    if (volumeUsers(ctx, name).some((id) => id !== container.id)) continue;
    await ctx.volumes.remove(name, { force: true, users: [] });
    ctx.events.publish("volume", "destroy", name, { driver: "local" });
  }
}

/** Ids of the containers that mount a volume. */
export function volumeUsers(ctx: EngineContext, name: string): string[] {
  const users: string[] = [];
  for (const { id, record } of ctx.registry.all()) if (record.mounts.some((m) => m.Type === "volume" && m.Name === name)) users.push(id);
  return users;
}
