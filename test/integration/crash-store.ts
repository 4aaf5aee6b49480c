/** The parts of an engine that hold images, opened and swept as engine/restore.ts does it. @module */
import { openContentStore } from "#content/blob-store.ts";
import type { ContentStore } from "#content/mod.ts";
import { type ImageStore, openImageStore } from "#image/mod.ts";
import type { Helper } from "#linux/helper.ts";
import { openLayerStore } from "#unionfs/layer-store.ts";
import type { LayerStore, StorageDriver } from "#unionfs/mod.ts";
import { openDriver } from "#unionfs/open-driver.ts";
import type { LayerThreads } from "#unionfs/threads/layer-threads.ts";

export interface StoreParts {
  readonly driver: StorageDriver;
  readonly content: ContentStore;
  readonly layers: LayerStore;
  readonly images: ImageStore;
  /** What was logged as a warning or an error. */
  readonly complaints: readonly string[];
}

export async function openStore(root: string, driverName: string, helper: Helper, threads?: LayerThreads): Promise<StoreParts> {
  const complaints: string[] = [];
  const driver = await openDriver(driverName, { root, helper });
  const content = await openContentStore(root);
  const layers = await openLayerStore({ root, driver, helper });
  const images = await openImageStore({
    root,
    content,
    layers,
    ...(threads === undefined ? {} : { threads }),
    log: (level, message) => {
      if (level === "warn" || level === "error") complaints.push(message);
    },
  });
  return { driver, content, layers, images, complaints };
}

/** `snapshots`: those of the containers that there are. */
export async function sweep({ driver, content, images }: StoreParts, snapshots: ReadonlySet<string>): Promise<void> {
  await driver.sweep(snapshots);
  await images.sweep();
  await content.sweep();
  await driver.idle();
}
