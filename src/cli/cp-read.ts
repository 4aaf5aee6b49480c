/** Files here → a tar. @module */
import { createReadStream } from "node:fs";
import { lstat, readdir, readFile, readlink } from "node:fs/promises";
import { deviceNumbers, fileType } from "#core/file-stat.ts";
import { endBlocks, formatHeader, padding, type WriteEntry } from "#unionfs/tar/writer.ts";
import { explainFileError } from "./options/file-error.ts";
import { splitEntry } from "./cp-paths.ts";

const statOf = (path: Buffer) => lstat(path, { bigint: true });

/** What is left out: `path` (UTF-8) is relative to the tree's root. A directory that is left out is not looked into. */
export type Skip = (path: string, isDirectory: boolean) => boolean;

/**
 * The tree at a path; entries' names begin with `name`. A second name of a file is a hard link to the first.
 * @param onChanged told of each file that has grown while it was read: in the archive it is cut. One that shrinks is an error.
 */
export async function* readTree(
  path: string,
  name: string,
  skip: Skip = () => false,
  onChanged: (message: string) => void = () => undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { directory, base } = splitEntry(path);
  const links = new Map<string, string>();
  yield* entry(Buffer.from(base === "." || base === "/" ? directory : path.replace(/\/+$/, "")), Buffer.from(name === "/" ? "" : name).toString("latin1"), {
    links,
    skip,
    onChanged,
    root: name,
  });
  yield endBlocks();
}

interface Reading {
  readonly links: Map<string, string>;
  readonly skip: Skip;
  readonly onChanged: (message: string) => void;
  readonly root: string;
}

async function* entry(path: Buffer, name: string, reading: Reading): AsyncGenerator<Uint8Array, void, undefined> {
  const { links, skip, root } = reading;
  const stat = await statOf(path).catch((error: unknown) => {
    throw explainFileError(error, "lstat", path.toString());
  });
  const type = fileType(stat);
  if (type === undefined) return;
  const below = Buffer.from(name.slice(root.length).replace(/^\//, ""), "latin1").toString("utf8");
  if (below !== "" && skip(below, type === "dir")) return;
  const header: WriteEntry = {
    name,
    type,
    linkname: type === "symlink" ? (await readlink(path, { encoding: "buffer" })).toString("latin1") : "",
    mode: Number(stat.mode) & 0o7777,
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    size: type === "file" ? Number(stat.size) : 0,
    mtimeNs: stat.mtimeNs,
    ...deviceNumbers(stat.rdev),
    xattrs: [],
  };
  const key = `${stat.dev}:${stat.ino}`;
  const first = type !== "dir" && stat.nlink > 1n ? links.get(key) : undefined;
  if (first !== undefined) {
    yield formatHeader({ ...header, type: "link", linkname: first, size: 0 });
    return;
  }
  if (type !== "dir" && stat.nlink > 1n) links.set(key, name);
  yield formatHeader(header);
  if (type === "file") yield* content(path, header.size, reading);
  if (type !== "dir") return;
  const names = await readdir(path, { encoding: "buffer" }).catch((error: unknown) => {
    throw explainFileError(error, "open", path.toString());
  });
  for (const child of names.sort(Buffer.compare)) yield* entry(Buffer.concat([path, Buffer.from("/"), child]), `${name}/${child.toString("latin1")}`, reading);
}

/** Files of up to so many bytes are read at once: a stream for each costs more than the reading. */
const smallFile = 256 * 1024;

/** As many bytes as the header has said: the file may change meanwhile. */
async function* content(path: Buffer, size: number, { onChanged }: Reading): AsyncGenerator<Uint8Array, void, undefined> {
  if (size === 0) return;
  let bytes = 0;
  let now = 0;
  try {
    if (size <= smallFile) {
      const whole = await readFile(path);
      now = whole.length;
      const data = whole.subarray(0, size);
      bytes = data.length;
      if (bytes === size) yield data;
    } else
      for await (const chunk of createReadStream(path, { end: size - 1, highWaterMark: 256 * 1024 }) as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        yield chunk;
      }
    // One that is gone by now has been read whole.
    if (size > smallFile) now = Number((await statOf(path).catch(() => undefined))?.size ?? 0);
  } catch (error) {
    throw explainFileError(error, "open", path.toString());
  }
  if (bytes < size) throw new Error(`read ${path.toString()}: file shrank while it was read`);
  if (now > size) onChanged(`"${path.toString()}" has grown while it was read: it is cut to the ${size} bytes that it had`);
  yield padding(size);
}
