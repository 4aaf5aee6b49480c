/**
 * A tar → files here. The archive comes from a container, whose processes may have made anything: no entry lands outside of the directory, and none is
 * written through a link that another one has made.
 * @module
 */
import { createWriteStream } from "node:fs";
import { chmod, link, lstat, lutimes, mkdir, rm, symlink, utimes } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { TarEntry } from "#unionfs/tar/entry.ts";
import { TarReader } from "#unionfs/tar/reader.ts";
import { type Placement, renamed } from "./cp-paths.ts";
import { ExitError } from "./errors.ts";
import { explainFileError } from "./options/file-error.ts";

/** Unpacks below `placement.directory`. Owners are the caller's; directories are merged, and never exchanged for something else. */
export async function writeTree(source: AsyncIterable<Uint8Array>, placement: Placement): Promise<void> {
  const reader = new TarReader(source);
  const writer = new Writer(reader, placement);
  try {
    for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) await writer.add(entry);
    await writer.finish();
  } catch (error) {
    await reader.close();
    throw error;
  }
}

const text = (name: string): string => Buffer.from(name, "latin1").toString("utf8");

class Writer {
  readonly #reader: TarReader;
  readonly #placement: Placement;
  readonly #root: Buffer;
  /** Real directories below the root. */
  readonly #checked = new Set<string>([""]);
  /** Modes and times are set last: making an entry changes its directory's time, and needs it to be writable. */
  readonly #directories: [path: Buffer, entry: TarEntry][] = [];

  constructor(reader: TarReader, placement: Placement) {
    this.#reader = reader;
    this.#placement = placement;
    this.#root = Buffer.from(placement.directory);
  }

  async add(entry: TarEntry): Promise<void> {
    const name = this.#inside(renamed(entry.name.replace(/\/+$/, "") || "/", this.#placement.rename));
    try {
      await this.#add(entry, name);
    } catch (error) {
      throw error instanceof ExitError ? error : explainFileError(error, "create", this.#path(name).toString());
    }
  }

  async finish(): Promise<void> {
    for (const [path, entry] of this.#directories.reverse()) {
      await chmod(path, entry.mode);
      await utimes(path, seconds(entry), seconds(entry));
    }
  }

  #path(name: string): Buffer {
    return name === "" ? this.#root : Buffer.concat([this.#root, Buffer.from("/"), Buffer.from(name, "latin1")]);
  }

  #inside(name: string): string {
    const parts = name.split("/").filter((part) => part !== "" && part !== ".");
    if (parts.includes("..")) throw new ExitError(1, `${JSON.stringify(text(name))} is outside of ${JSON.stringify(this.#placement.directory)}`);
    return parts.join("/");
  }

  async #add(entry: TarEntry, name: string): Promise<void> {
    if (name === "") return; // the directory itself stays as it is
    await this.#checkParents(name);
    const path = this.#path(name);
    const old = await statOf(path);
    if (old !== undefined && old.isDirectory() !== (entry.type === "dir")) {
      const [what, by] = old.isDirectory() ? ["directory", "non-directory"] : ["non-directory", "directory"];
      throw new ExitError(1, `cannot overwrite ${what} ${JSON.stringify(path.toString())} with ${by} ${JSON.stringify(this.#placement.directory)}`);
    }
    if (entry.type === "dir") {
      if (old === undefined) await mkdir(path, 0o700);
      this.#checked.add(name);
      this.#directories.push([path, entry]);
      return;
    }
    if (old !== undefined) await rm(path);
    await this.#create(entry, path);
  }

  /** Every directory above must be one, not a link to one; missing ones are made. */
  async #checkParents(name: string): Promise<void> {
    const parts = name.split("/").slice(0, -1);
    for (let n = 1; n <= parts.length; n++) {
      const above = parts.slice(0, n).join("/");
      if (this.#checked.has(above)) continue;
      const stat = await statOf(this.#path(above));
      if (stat === undefined) await mkdir(this.#path(above), 0o755);
      else if (!stat.isDirectory()) throw new ExitError(1, `${JSON.stringify(text(name))} lies below ${JSON.stringify(text(above))}, which is not a directory`);
      this.#checked.add(above);
    }
  }

  async #create(entry: TarEntry, path: Buffer): Promise<void> {
    const time = seconds(entry);
    switch (entry.type) {
      case "symlink":
        await symlink(Buffer.from(entry.linkname, "latin1"), path);
        return lutimes(path, time, time);
      case "link": {
        const existing = this.#inside(renamed(entry.linkname, this.#placement.rename));
        await this.#checkParents(existing);
        return link(this.#path(existing), path);
      }
      case "file": {
        // "wx": made by us, or not at all.
        await pipeline(Readable.from(this.#content(entry), { objectMode: false }), createWriteStream(path, { flags: "wx", mode: 0o600 }));
        await chmod(path, entry.mode);
        return utimes(path, time, time);
      }
      default:
        throw new ExitError(1, `cannot make ${JSON.stringify(path.toString())}: devices and named pipes are not copied out of a container`);
    }
  }

  /** Holes of a sparse file become zeros. */
  async *#content({ sparse, size }: TarEntry): AsyncGenerator<Uint8Array, void, undefined> {
    if (sparse !== undefined) throw new ExitError(1, `an archive of ${size} bytes with holes is not supported`);
    for (let piece = await this.#reader.read(); piece !== undefined; piece = await this.#reader.read()) yield piece;
  }
}

function seconds({ mtimeNs }: TarEntry): number {
  return Number(mtimeNs / 1000n) / 1e6;
}

async function statOf(path: Buffer): Promise<Awaited<ReturnType<typeof lstat>> | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
