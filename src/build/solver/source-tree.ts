import { EngineError } from "#core/errors.ts";
import { type ByteString, baseOf, joinPath, parentOf, printable } from "#unionfs/bytes.ts";
import type { Xattr } from "#unionfs/tar/entry.ts";
import type { KnownAnswers } from "./known-states.ts";

/** A file or directory that can be copied. */
export interface SourceEntry {
  /** Within its tree, without leading slash; "" = its root. */
  readonly path: ByteString;
  readonly type: "file" | "dir" | "symlink" | "char" | "block" | "fifo" | "socket";
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes. */
  readonly size: number;
  readonly mtimeNs: bigint;
  /** Of a symlink. */
  readonly target: ByteString;
  readonly major: number;
  readonly minor: number;
  readonly xattrs: readonly Xattr[];
  /** Names that share one file have the same. */
  readonly inode?: string;
}

/** Where COPY takes files from: the context, a stage's or image's root, what was downloaded. */
export interface SourceTree extends AsyncDisposable {
  /** No link is followed. */
  lstat(path: ByteString): Promise<SourceEntry | undefined>;
  /** An entry and all below it, a directory before what is in it, siblings in byte order. */
  walk(path: ByteString): AsyncIterable<SourceEntry>;
  read(path: ByteString): AsyncIterable<Uint8Array>;
  /** sha256 of a file's content, hex. */
  digest(path: ByteString): Promise<string>;
  /** Files that will be asked for: a tree that has to fetch them fetches them together. */
  want?(paths: readonly ByteString[]): Promise<void>;
  /** What earlier builds have found out about a tree that was, file for file, this one. undefined: whether there was one is not known. */
  readonly known?: KnownAnswers;
}

/** As many links as Linux follows. */
const maxLinks = 40;

/**
 * The path that `path` leads to within the tree when all links in its directory part, and with `last` also that at its end, are followed; links that lead out of the tree lead to
 * its root, as in a container. The end, or more, may be missing. @throws EngineError "invalid" for a loop
 */
export async function resolveWithin(
  lstat: (path: ByteString) => Promise<Pick<SourceEntry, "type" | "target"> | undefined>,
  path: ByteString,
  last: boolean,
): Promise<ByteString> {
  const pending = path.split("/").reverse();
  let at: ByteString = "";
  for (let links = 0; pending.length > 0; ) {
    const part = pending.pop()!;
    if (part === "" || part === ".") continue;
    if (part === "..") {
      at = parentOf(at);
      continue;
    }
    const next = joinPath(at, part);
    const entry = pending.length > 0 || last ? await lstat(next) : undefined;
    if (entry?.type !== "symlink") {
      at = next;
      continue;
    }
    if (++links > maxLinks) throw new EngineError("invalid", `${printable(path)}: too many levels of symbolic links`);
    if (entry.target.startsWith("/")) at = "";
    pending.push(...entry.target.split("/").reverse());
  }
  return at;
}

/** For messages and patterns: names are UTF-8 there. */
export function textOf(path: ByteString): string {
  return Buffer.from(path, "latin1").toString("utf8");
}

export function pathOf(text: string): ByteString {
  return Buffer.from(text, "utf8").toString("latin1");
}

export { baseOf, joinPath, parentOf };
export type { ByteString };
