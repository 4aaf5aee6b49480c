/** `rename`. @module */
import { parseContainerName } from "#container/names.ts";
import { EngineError } from "#core/errors.ts";
import { type EngineContext, publishContainerEvent } from "./context.ts";

export async function renameContainer(ctx: EngineContext, name: string, newName: string): Promise<void> {
  const container = ctx.registry.get(name);
  if (newName === "" || newName === "/") throw new EngineError("invalid", "Neither old nor new names may be empty");
  const wanted = parseContainerName(newName);
  await container.mutex.run(async () => {
    const old = container.record.name;
    if (container.removed) throw new EngineError("not-found", `No such container: ${name}`);
    if (wanted === old) throw new EngineError("invalid", "Renaming a container with the same name as its current name");
    ctx.registry.reserveName(wanted, container.id);
    try {
      await ctx.records.save({ ...container.record, name: wanted });
    } catch (error) {
      ctx.registry.releaseName(wanted, container.id);
      throw error;
    }
    container.set({ name: wanted, endpoints: { ...container.record.endpoints, ...ctx.networks.rename(container.id, wanted) } });
    ctx.registry.releaseName(old, container.id);
    publishContainerEvent(ctx, container, "rename", { oldName: `/${old}` });
  });
}
