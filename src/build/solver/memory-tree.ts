import { createHash } from "node:crypto";
import { type ByteString, pathOf, type SourceEntry, type SourceTree } from "./source-tree.ts";

/** The file's name: a heredoc's may hold what a file's cannot. */
export function inlineName(name: string): ByteString {
  return pathOf(name.replaceAll("/", "_"));
}

/** A heredoc's file as a source. */
export function inlineTree(name: string, content: string): SourceTree {
  const bytes = Buffer.from(content, "utf8");
  const path = inlineName(name);
  const entry: SourceEntry = { path, type: "file", mode: 0o644, uid: 0, gid: 0, size: bytes.length, mtimeNs: 0n, target: "", major: 0, minor: 0, xattrs: [] };
  const find = (at: ByteString) => (at === path ? entry : undefined);
  return {
    lstat: async (at) => find(at),
    async *walk(at) {
      const found = find(at);
      if (found !== undefined) yield found;
    },
    async *read() {
      yield bytes;
    },
    digest: async () => createHash("sha256").update(bytes).digest("hex"),
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** The root of `scratch`. */
export function emptyTree(): SourceTree {
  const root: SourceEntry = { path: "", type: "dir", mode: 0o755, uid: 0, gid: 0, size: 0, mtimeNs: 0n, target: "", major: 0, minor: 0, xattrs: [] };
  return {
    lstat: async (at) => (at === "" ? root : undefined),
    async *walk(at) {
      if (at === "") yield root;
    },
    async *read() {},
    digest: async () => "",
    [Symbol.asyncDispose]: async () => undefined,
  };
}
