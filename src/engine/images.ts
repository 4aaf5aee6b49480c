/** The images, with what only the engine knows: which containers use them, and events. @module */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { ImageID } from "#core/digest.ts";
import { familiarName, parseReference } from "#core/reference.ts";
import { usedImages } from "#container/used-images.ts";
import { isRunning } from "#container/state.ts";
import { bootstrapImage, branchOf, compareImages, type DeleteResult, type Image } from "#image/mod.ts";
import type { EngineContext } from "./context.ts";
import { copyImage } from "./copy-image.ts";
import { importStore } from "./import-store.ts";
import { hasLabel, parseUntil } from "./list-containers.ts";
import type { Filters, Images } from "./mod.ts";
import { pullImage } from "./pull-image.ts";
import { pushImage } from "./push-image.ts";

export function imagesOf(ctx: EngineContext): Images {
  const { images, events, imageIndex, imageMounts } = ctx;
  /** Changes of images are seen by `ps --filter ancestor` from then on. */
  const changing = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } finally {
      await imageIndex.refresh();
    }
  };
  const publish = (action: string, id: string, name: string, labels: Readonly<Record<string, string>> = {}) =>
    events.publish("image", action, id, { ...labels, name });
  return {
    get: (name) => images.get(name),
    find: (name) => images.find(name),
    list: () => images.list(),
    save: async (names) => {
      const stream = await images.save(names);
      for (const name of names) {
        const image = await images.find(name);
        if (image !== undefined) publish("save", image.id, image.id, image.config.config?.Labels);
      }
      return stream;
    },
    tag: async (nameOrId, reference) => {
      const image = await images.get(nameOrId);
      await changing(images.tag(image.id, reference));
      publish("tag", image.id, reference, image.config.config?.Labels);
    },
    load: (archive, onEvent, signal) =>
      changing(
        images.load(
          archive,
          (event) => {
            if (event.kind === "loaded") publish("load", event.id, event.id);
            onEvent(event);
          },
          signal,
          (bytes) => ctx.budget.makeRoom(async () => bytes),
        ),
      ),
    importStore: (directory, onEvent, signal) => changing(importStore(ctx, directory, onEvent, signal)),
    pull: (request, onEvent, signal) =>
      changing(
        pullImage(
          ctx,
          request,
          (event) => {
            if (event.kind === "end") {
              const name = parseReference(event.reference);
              events.publish("image", "pull", event.reference, { name: familiarName(name) });
            }
            onEvent(event);
          },
          signal,
        ),
      ),
    push: (request, onEvent, signal) =>
      changing(
        pushImage(
          ctx,
          request,
          (event) => {
            if (event.kind === "end") {
              const name = familiarName(parseReference(request.reference));
              events.publish("image", "push", `${name}:${event.tag}`, { name });
            }
            onEvent(event);
          },
          signal,
        ),
      ),
    copy: (request, onEvent, signal) => copyImage(ctx, request, onEvent, signal),
    import: async (tar, options) => {
      await ctx.budget.makeRoom(async () => 0);
      const id = await changing(images.import(tar, options));
      publish("import", id, options.reference ?? id);
      return id;
    },
    remove: async (nameOrId, options) => {
      const { id } = await images.get(nameOrId);
      const results = await changing(images.remove(nameOrId, { ...options, inUse: (image) => usersOf(ctx, image) }));
      publishDeletes(ctx, id, results);
      return results;
    },
    prune: async (filters) => {
      const all = (filters["dangling"] ?? []).some((v) => v === "0" || v.toLowerCase() === "false");
      const used = new Set([...ctx.registry.all()].flatMap((c) => usedImages(c.record)));
      const result = await changing(images.prune({ all, used, match: pruneFilter(filters) }));
      publishDeletes(ctx, "", result.deleted);
      events.publish("image", "prune", "", { reclaimed: String(result.bytes) });
      return result;
    },
    mount: (name) => imageMounts.mount(name),
    unmount: (name) => imageMounts.unmount(name),
    mounts: () => imageMounts.list(),
    tree: async () => (await images.list()).map(branchOf),
    compare: async (a, b) => compareImages(ctx.layers, await images.get(a), await images.get(b)),
    users: (id) => usersOf(ctx, id).map((user) => user.id),
    bootstrap: async (what, onProgress, signal) => {
      const workDir = join(ctx.options.dataRoot, "tmp");
      await mkdir(workDir, { recursive: true, mode: 0o700 });
      return changing(
        bootstrapImage({
          store: images,
          what,
          workDir,
          openTree: (root) => ctx.helper.openTree(root),
          onProgress,
          ...(signal === undefined ? {} : { signal }),
        }),
      );
    },
  };
}

function usersOf(ctx: EngineContext, id: ImageID): { readonly id: string; readonly running: boolean }[] {
  return [...ctx.registry.all()].filter((c) => usedImages(c.record).includes(id)).map((c) => ({ id: c.id, running: isRunning(c.state) }));
}

function publishDeletes({ events }: EngineContext, id: string, results: readonly DeleteResult[]): void {
  for (const result of results) {
    if ("Untagged" in result) events.publish("image", "untag", id, { name: result.Untagged });
    else events.publish("image", "delete", result.Deleted, { name: result.Deleted });
  }
}

function pruneFilter(filters: Filters): (image: Image) => boolean {
  const labels = filters["label"] ?? [];
  const without = filters["label!"] ?? [];
  const until = (filters["until"] ?? []).map(parseUntil);
  return ({ config }) => {
    const own = config.config?.Labels ?? {};
    return labels.every((l) => hasLabel(own, l)) && !without.some((l) => hasLabel(own, l)) && until.every((limit) => Date.parse(config.created ?? "") < limit);
  };
}
