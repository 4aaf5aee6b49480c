import { randomBytes } from "node:crypto";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { asStorageError } from "#core/storage-error.ts";
import type { LayerDirectory } from "./layer-directory.ts";
import { addMountPoints } from "./mount-points.ts";
import { UnionView } from "./union-view.ts";

/**
 * Makes the layer of mount points that every container on these `lowers` (a view of them, or directories below the driver's, top-most first) gets as its top-most read-only one. It is not synced: in another boot than `files.boot` it is made anew.
 */
export async function makeInitLayer(
  directory: Pick<LayerDirectory, "helper" | "root" | "making">,
  name: string,
  lowers: readonly string[] | UnionView,
  files: { readonly link: string; readonly boot: string },
): Promise<void> {
  const { helper, root } = directory;
  const temporary = `tmp-init-${randomBytes(8).toString("hex")}`;
  const make = async () => {
    await mkdir(join(root, temporary, "diff"), { recursive: true, mode: 0o755 });
    for (const [file, text] of Object.entries(files)) await writeFile(join(root, temporary, file), text);
    const tree = await helper.openTree(root);
    try {
      await addMountPoints(tree, `${temporary}/diff`, lowers instanceof UnionView ? lowers : new UnionView(tree, lowers));
    } finally {
      await tree.close();
    }
    await rename(join(root, temporary), join(root, name));
  };
  try {
    await directory.making(temporary, make);
  } catch (error) {
    throw asStorageError(error, `making the mount points of ${name}`);
  }
}
