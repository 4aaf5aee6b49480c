import { createHash } from "node:crypto";
import type { FileTree, TreeStat } from "#linux/file-tree.ts";
import { toByteString, toBytes } from "#unionfs/bytes.ts";
import type { ByteString, SourceEntry, SourceTree } from "./source-tree.ts";

/** The root of a stage or image as a source. Closes the tree with itself. */
export function rootTree(tree: FileTree): SourceTree {
  return {
    lstat: async (path) => {
      const stat = await tree.lstat(toBytes(path));
      return stat === undefined ? undefined : entryOf(path, stat);
    },
    async *walk(path) {
      for await (const stat of tree.walk(toBytes(path))) yield entryOf(toByteString(stat.path), stat);
    },
    async *read(path) {
      yield* (await tree.readFile(toBytes(path))).data;
    },
    digest: async (path) => {
      const hash = createHash("sha256");
      for await (const chunk of (await tree.readFile(toBytes(path))).data) hash.update(chunk);
      return hash.digest("hex");
    },
    [Symbol.asyncDispose]: () => tree.close(),
  };
}

function entryOf(path: ByteString, stat: TreeStat): SourceEntry {
  const { type, mode, uid, gid, mtimeNs, major, minor } = stat;
  const target = stat.target === undefined ? "" : toByteString(stat.target);
  const shared = stat.nlink > 1 && type !== "dir" ? { inode: `${stat.dev}:${stat.ino}` } : {};
  return { path, type, mode, uid, gid, mtimeNs, major, minor, target, size: type === "file" ? stat.size : 0, xattrs: stat.xattrs.filter(isCopied), ...shared };
}

/** What belongs to a file rather than to this host or to overlayfs. */
function isCopied({ name }: { readonly name: string }): boolean {
  return name === "security.capability" || (name.startsWith("user.") && !name.startsWith("user.overlay."));
}
