import { createHash } from "node:crypto";
import type { FileTree, TreeStat } from "#linux/file-tree.ts";
import { toByteString, toBytes } from "#unionfs/bytes.ts";
import type { KnownAnswers } from "./known-states.ts";
import type { ByteString, SourceEntry, SourceTree } from "./source-tree.ts";

/** The root of a stage or image as a source: opened when a file of it is asked for, and closed with itself. */
export function rootTree(open: () => Promise<FileTree>, known: KnownAnswers): SourceTree {
  let opened: Promise<FileTree> | undefined;
  const tree = () => (opened ??= open());
  const dataOf = async (path: ByteString) => (await (await tree()).readFile(toBytes(path))).data;
  return {
    known,
    lstat: async (path) => {
      const stat = await (await tree()).lstat(toBytes(path));
      return stat === undefined ? undefined : entryOf(path, stat);
    },
    async *walk(path) {
      for await (const stat of (await tree()).walk(toBytes(path))) yield entryOf(toByteString(stat.path), stat);
    },
    async *read(path) {
      yield* await dataOf(path);
    },
    digest: async (path) => {
      const hash = createHash("sha256");
      for await (const chunk of await dataOf(path)) hash.update(chunk);
      return hash.digest("hex");
    },
    [Symbol.asyncDispose]: async () => {
      const open = await opened?.catch(() => undefined); // who asked was told
      await open?.close();
    },
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
