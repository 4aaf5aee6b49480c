/** `container prune`: everything that does not run and is no step of a build under way. @module */
import { isActive } from "#container/state.ts";
import { isEngineError } from "#core/errors.ts";
import { containerSize } from "./container-content.ts";
import type { EngineContext } from "./context.ts";
import { containerFilter } from "./list-containers.ts";
import type { Filters } from "./mod.ts";
import { removeContainer } from "./remove-container.ts";

export async function pruneContainers(ctx: EngineContext, filters: Filters): Promise<{ readonly deleted: string[]; readonly bytes: number }> {
  const wanted = containerFilter(ctx, filters);
  const deleted: string[] = [];
  let bytes = 0;
  for (const container of [...ctx.registry.all()].filter((c) => !isActive(c.state) && !ctx.builds.steps.has(c.id) && wanted(c))) {
    try {
      const { rw } = await containerSize(ctx, container);
      await removeContainer(ctx, container.id, { force: false, volumes: false });
      deleted.push(container.id);
      bytes += rw;
    } catch (error) {
      // Started or removed by somebody else meanwhile.
      if (isEngineError(error, "conflict") || isEngineError(error, "not-found")) continue;
      throw error;
    }
  }
  ctx.events.publish("container", "prune", "", { reclaimed: String(bytes) });
  return { deleted, bytes };
}
