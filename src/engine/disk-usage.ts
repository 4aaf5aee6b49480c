/** `system df`. @module */
import { errnoOf, isEngineError } from "#core/errors.ts";
import { containerSize } from "./container-content.ts";
import type { EngineContext } from "./context.ts";
import type { Engine } from "./mod.ts";
import { stat } from "node:fs/promises";

export async function diskUsage(ctx: EngineContext): ReturnType<Engine["system"]["diskUsage"]> {
  const { layers } = await ctx.layers.driver.list();
  let layersBytes = 0;
  for (const chain of layers) {
    const stillThere = async () => (await ctx.layers.driver.list()).layers.includes(chain);
    layersBytes += (await unlessRemoved(ctx.layers.driver.usage(chain), stillThere))?.bytes ?? 0;
  }
  const containers: Record<string, { readonly rw: number; readonly rootFs: number }> = {};
  for (const container of [...ctx.registry.all()]) {
    const own = (await unlessRemoved(containerSize(ctx, container), () => true)) ?? { rw: 0, rootFs: 0 };
    const log = container.record.logPath === "" ? 0 : await fileBytes(container.record.logPath);
    containers[container.id] = { rw: own.rw + log, rootFs: own.rootFs + log };
  }
  const volumes: Record<string, number> = {};
  for (const { Name, Mountpoint } of ctx.volumes.list()) {
    const bytes = await unlessRemoved(directoryBytes(ctx, Mountpoint), () => ctx.volumes.find(Name) !== undefined);
    if (bytes !== undefined) volumes[Name] = bytes;
  }
  return { layersBytes, containers, volumes };
}

/** undefined: measuring has failed because the thing was removed meanwhile. */
async function unlessRemoved<T>(measuring: Promise<T>, stillThere: () => boolean | Promise<boolean>): Promise<T | undefined> {
  try {
    return await measuring;
  } catch (error) {
    if (isEngineError(error, "not-found") || !(await stillThere())) return undefined;
    throw error;
  }
}

async function fileBytes(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return 0;
    throw error;
  }
}

/** Lengths of all files below, hard links once. */
export async function directoryBytes(ctx: EngineContext, directory: string): Promise<number> {
  const tree = await ctx.helper.openTree(directory);
  const seen = new Set<bigint>();
  let bytes = 0;
  try {
    for await (const entry of tree.walk("")) {
      if (entry.type !== "file" || (entry.nlink > 1 && seen.has(entry.ino))) continue;
      seen.add(entry.ino);
      bytes += entry.size;
    }
  } finally {
    await tree.close();
  }
  return bytes;
}
