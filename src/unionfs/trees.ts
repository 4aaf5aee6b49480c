import { dirname, relative } from "node:path";
import type { FileTree } from "#linux/file-tree.ts";
import type { Helper } from "#linux/helper.ts";
import type { RootMount } from "./mod.ts";

/** The directories of a root, top-most first. */
export function directoriesOf(mount: RootMount | undefined): readonly string[] {
  if (mount === undefined) return [];
  if (mount.kind === "overlay") return mount.upper === undefined ? mount.lower : [mount.upper, ...mount.lower];
  if (mount.kind === "fuse") return mount.directories;
  return mount.kind === "bind" ? [mount.source] : [];
}

/** Opens one tree that has all of these directories in it, and gives their paths within. */
export async function openCommonTree(helper: Helper, directories: readonly string[]): Promise<{ readonly tree: FileTree; readonly paths: readonly string[] }> {
  const root = directories.length === 1 ? directories[0]! : commonParent(directories);
  return { tree: await helper.openTree(root), paths: directories.map((directory) => relative(root, directory)) };
}

function commonParent(paths: readonly string[]): string {
  let common = dirname(paths[0] ?? "/");
  for (const path of paths) while (common !== "/" && !path.startsWith(`${common}/`)) common = dirname(common);
  return common;
}
