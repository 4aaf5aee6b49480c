import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { ChainID } from "#core/digest.ts";
import type { FileTree } from "#linux/file-tree.ts";
import { planStoppedTree } from "#runtime/mod.ts";
import type { RootMount } from "#unionfs/mod.ts";
import type { EngineContext } from "./context.ts";

/** A chain's tree as a container would see it, read-only, whatever the driver. */
export async function openChain(ctx: EngineContext, chain: ChainID): Promise<FileTree> {
  return openRootMount(ctx, await ctx.layers.driver.mounts(chain), `layer ${chain}`);
}

/** A root that a driver has described. `name`: for messages. */
export async function openRootMount(ctx: EngineContext, root: RootMount, name: string): Promise<FileTree> {
  if (root.kind === "bind") return ctx.helper.openTree(root.source);
  const [only, ...more] = root.kind === "overlay" && root.upper === undefined && root.images === undefined ? root.lower : [];
  // overlayfs wants at least two directories.
  if (only !== undefined && more.length === 0) return ctx.helper.openTree(only);
  return ctx.helper.openTree(name, planStoppedTree({ root, facts: ctx.facts, mounts: [], at: await emptyDirectory(ctx) }));
}

/** Something to mount a tree on, where only its worker sees it. */
export async function emptyDirectory({ options }: EngineContext): Promise<string> {
  const path = join(options.execRoot, "empty");
  await mkdir(path, { recursive: true, mode: 0o700 });
  return path;
}
