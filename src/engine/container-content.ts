/** What a container has written: `diff`, `export`, sizes, `commit`. @module */
import type { Container } from "#container/container.ts";
import { nowNs, rfc3339Nano } from "#core/clock.ts";
import type { DiffID, ImageID } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import { commitConfig } from "#image/mod.ts";
import type { Change } from "#unionfs/mod.ts";
import { type EngineContext, publishContainerEvent } from "./context.ts";
import { pauseContainer, unpauseContainer } from "./pause-container.ts";
import type { Containers } from "./mod.ts";

/** @throws EngineError "unsupported" for a container on a directory of the host */
function snapshotOf({ record }: Container): string {
  if (record.snapshot === "")
    throw new EngineError("unsupported", `container ${record.name} runs on the directory ${record.hostConfig.WherryRootfs}: it has no layer of its own`);
  return record.snapshot;
}

export async function containerChanges(ctx: EngineContext, name: string): Promise<Change[]> {
  return ctx.layers.changes(snapshotOf(ctx.registry.get(name)));
}

export async function exportContainer(ctx: EngineContext, name: string, onChanged?: (message: string) => void): Promise<AsyncIterable<Uint8Array>> {
  const container = ctx.registry.get(name);
  const tree = ctx.layers.exportTree(snapshotOf(container), (what) => {
    ctx.log("warn", `export of ${name}: ${what}`);
    onChanged?.(what);
  });
  publishContainerEvent(ctx, container, "export");
  return tree;
}

/** @throws EngineError "not-found" for one that is removed while it is measured */
export async function containerSize(ctx: EngineContext, container: Container): Promise<{ readonly rw: number; readonly rootFs: number }> {
  const { id, snapshot, imageId } = container.record;
  if (snapshot === "") return { rw: 0, rootFs: 0 };
  try {
    const [own, image] = await Promise.all([ctx.layers.driver.usage(snapshot), imageId === "" ? undefined : ctx.images.find(imageId)]);
    return { rw: own.bytes, rootFs: own.bytes + (image?.size ?? 0) };
  } catch (error) {
    if (container.removing || container.removed) throw new EngineError("not-found", `No such container: ${id}`, { cause: error });
    throw error;
  }
}

/** False: it has ended meanwhile, or somebody else has paused or unpaused it. Then it is as it is, as with docker. */
async function unlessOver(change: Promise<void>): Promise<boolean> {
  try {
    await change;
    return true;
  } catch (error) {
    if (isEngineError(error, "conflict")) return false;
    throw error;
  }
}

type CommitOptions = Parameters<Containers["commit"]>[1];

/** A new image of the container's image and what it has written. */
export async function commitContainer(ctx: EngineContext, name: string, options: CommitOptions): Promise<ImageID> {
  const container = ctx.registry.get(name);
  const snapshot = snapshotOf(container);
  const pauses = options.pause && container.state.status === "running";
  const base = container.record.imageId === "" ? undefined : await ctx.images.get(container.record.imageId);
  await ctx.budget.makeRoom(async () => (await ctx.layers.driver.usage(snapshot)).bytes);
  // Until the image is recorded, no prune may take the new layer.
  const held = ctx.layers.hold();
  try {
    const paused = pauses && (await unlessOver(pauseContainer(ctx, container.id)));
    let layer: { readonly diffId: DiffID };
    try {
      layer = await ctx.layers.commit(snapshot, base?.chainId, { keep: true });
    } finally {
      if (paused) await unlessOver(unpauseContainer(ctx, container.id));
    }
    const { record } = container;
    const config = commitConfig({
      base,
      diffId: layer.diffId,
      config: { ...record.config, ...options.changes },
      createdBy: [record.path, ...record.args].join(" "),
      containerId: record.id,
      created: rfc3339Nano(nowNs()),
      author: options.author,
      comment: options.comment,
    });
    const image = await ctx.images.add(config, {
      ...(options.reference === undefined ? {} : { tags: [options.reference] }),
      ...(base === undefined ? {} : { parent: base.id }),
    });
    await ctx.imageIndex.refresh();
    publishContainerEvent(ctx, container, "commit", { comment: options.comment, imageID: image.id, imageRef: options.reference ?? "" });
    return image.id;
  } finally {
    held.release();
  }
}
