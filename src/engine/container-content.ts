/** What a container has written: `diff`, `export`, sizes, `commit`. @module */
import type { Container } from "#container/container.ts";
import { isRunning } from "#container/state.ts";
import { nowNs, rfc3339Nano } from "#core/clock.ts";
import type { ContainerConfig } from "#core/container-config.ts";
import type { ImageID } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import type { ImageConfigJson } from "#core/image-spec.ts";
import type { Image } from "#image/mod.ts";
import type { Change } from "#unionfs/mod.ts";
import { type EngineContext, publishContainerEvent } from "./context.ts";
import { pauseContainer, unpauseContainer } from "./pause-container.ts";
import type { Containers } from "./mod.ts";

/** @throws EngineError "unsupported" for a container on a directory of the host */
function snapshotOf({ record }: Container): string {
  if (record.snapshot === "") throw new EngineError("unsupported", `container ${record.name} runs on the directory ${record.hostConfig.WherryRootfs}: it has no layer of its own`);
  return record.snapshot;
}

export async function containerChanges(ctx: EngineContext, name: string): Promise<Change[]> {
  return ctx.layers.changes(snapshotOf(ctx.registry.get(name)));
}

export async function exportContainer(ctx: EngineContext, name: string): Promise<AsyncIterable<Uint8Array>> {
  const container = ctx.registry.get(name);
  const tree = ctx.layers.exportTree(snapshotOf(container));
  publishContainerEvent(ctx, container, "export");
  return tree;
}

export async function containerSize(ctx: EngineContext, { record }: Container): Promise<{ readonly rw: number; readonly rootFs: number }> {
  if (record.snapshot === "") return { rw: 0, rootFs: 0 };
  const [own, image] = await Promise.all([ctx.layers.driver.usage(record.snapshot), record.imageId === "" ? undefined : ctx.images.find(record.imageId)]);
  return { rw: own.bytes, rootFs: own.bytes + (image?.size ?? 0) };
}

type CommitOptions = Parameters<Containers["commit"]>[1];

/** A new image of the container's image and what it has written. */
export async function commitContainer(ctx: EngineContext, name: string, options: CommitOptions): Promise<ImageID> {
  const container = ctx.registry.get(name);
  const snapshot = snapshotOf(container);
  const pauses = options.pause && container.state.status === "running";
  const base = container.record.imageId === "" ? undefined : await ctx.images.get(container.record.imageId);
  // Until the image is recorded, no prune may take the new layer.
  const held = ctx.layers.hold();
  try {
    if (pauses) await pauseContainer(ctx, container.id);
    let layer: { readonly diffId: ImageConfigJson["rootfs"]["diff_ids"][number] };
    try {
      layer = await ctx.layers.apply(base?.chainId, ctx.layers.diff(snapshot));
    } finally {
      if (pauses && isRunning(container.state)) await unpauseContainer(ctx, container.id);
    }
    const config = committedConfig(container, base, options, layer.diffId);
    const image = await ctx.images.add(Buffer.from(JSON.stringify(config)), { ...(options.reference === undefined ? {} : { tags: [options.reference] }), ...(base === undefined ? {} : { parent: base.id }) });
    publishContainerEvent(ctx, container, "commit", { comment: options.comment, imageID: image.id, imageRef: options.reference ?? "" });
    return image.id;
  } finally {
    held.release();
  }
}

/** What dockerd writes: the container's config becomes the image's, `--change`s applied by the caller. */
function committedConfig({ record }: Container, base: Image | undefined, { comment, author, changes }: CommitOptions, diffId: ImageConfigJson["rootfs"]["diff_ids"][number]): ImageConfigJson {
  const created = rfc3339Nano(nowNs());
  const own: Partial<ContainerConfig> = { ...record.config, ...changes };
  return {
    architecture: base?.config.architecture ?? (process.arch === "arm64" ? "arm64" : "amd64"),
    ...(base?.config.variant === undefined ? {} : { variant: base.config.variant }),
    ...(author === "" ? {} : { author }),
    ...(comment === "" ? {} : { comment }),
    config: own,
    container: record.id,
    created,
    history: [...(base?.config.history ?? []), { created, ...(author === "" ? {} : { author }), created_by: [record.path, ...record.args].join(" "), ...(comment === "" ? {} : { comment }) }],
    os: base?.config.os ?? "linux",
    rootfs: { type: "layers", diff_ids: [...(base?.diffIds ?? []), diffId] },
  };
}
