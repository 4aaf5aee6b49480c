import type { FileTree } from "#linux/file-tree.ts";

/** What lies in a tree, which is closed afterwards. `bytes` as Docker counts (lengths of files and link targets, hard links once), `allocatedBytes` as du(1). */
export async function treeUsage(tree: FileTree): Promise<{ readonly bytes: number; readonly inodes: number; readonly allocatedBytes: number }> {
  try {
    let bytes = 0;
    let inodes = 0;
    let allocatedBytes = 0;
    const seen = new Set<bigint>();
    for await (const entry of tree.walk("")) {
      if (entry.nlink > 1 && entry.type !== "dir") {
        if (seen.has(entry.ino)) continue;
        seen.add(entry.ino);
      }
      inodes++;
      allocatedBytes += entry.blocks * 512;
      if (entry.type !== "dir") bytes += entry.size;
    }
    return { bytes, inodes, allocatedBytes };
  } finally {
    await tree.close();
  }
}
