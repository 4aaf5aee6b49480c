/** Unpacks a tar in a container's tree, as dockerd does for `cp`: what is there is replaced, directories are merged. @module */
import { posix } from "node:path";
import { EngineError, isEngineError } from "#core/errors.ts";
import type { FileMeta } from "#linux/file-tree.ts";
import { type ByteString, baseOf, joinPath, parentOf, printable, toBytes } from "#unionfs/bytes.ts";
import { isOverlayXattr } from "#unionfs/overlay-format.ts";
import type { TarEntry } from "#unionfs/tar/entry.ts";
import { TarReader } from "#unionfs/tar/reader.ts";
import type { ContainerTree } from "./archive-root.ts";

export interface ExtractOptions {
  readonly opened: Pick<ContainerTree, "tree">;
  /** The directory, for the file tree ("" = the root). */
  readonly at: string;
  /** The same as it was asked for, for messages. */
  readonly absolute: string;
  readonly noOverwriteDirNonDir: boolean;
  /** Everything shall belong to this user; undefined: as the archive says. */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
}

export async function extractTar(source: AsyncIterable<Uint8Array>, options: ExtractOptions): Promise<void> {
  const reader = new TarReader(source, { allowMissingEnd: true });
  const extractor = new Extractor(reader, options);
  try {
    for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) await extractor.add(entry);
    await extractor.finish();
  } catch (error) {
    await reader.close();
    if (isEngineError(error, "corrupt")) throw new EngineError("invalid", error.message, { cause: error, details: error.details });
    throw extractor.rendered(error);
  }
}

class Extractor {
  readonly #reader: TarReader;
  readonly #options: ExtractOptions;
  readonly #at: ByteString;
  /** Seen to be there; the container may think otherwise, then the kernel says so. */
  readonly #known = new Set<ByteString>();
  /** Their times are set last: making an entry changes its directory's. */
  readonly #directories = new Map<ByteString, FileMeta>();

  constructor(reader: TarReader, options: ExtractOptions) {
    this.#reader = reader;
    this.#options = options;
    this.#at = Buffer.from(options.at, "utf8").toString("latin1");
  }

  /** Nothing is waited for but room to send: what the entry replaces, or may not, is seen where it is made. */
  async add(entry: TarEntry): Promise<void> {
    const name = this.#inside(entry.name);
    if (name === "") return;
    const { tree } = this.#options.opened;
    const path = joinPath(this.#at, name);
    await this.#makeParents(parentOf(name), entry);
    if (this.#options.noOverwriteDirNonDir) await tree.expect(toBytes(path), entry.type === "dir");
    if (entry.type !== "dir" && this.#known.has(name))
      for (const known of this.#known) if (known === name || known.startsWith(`${name}/`)) this.#known.delete(known);
    await this.#create(entry, toBytes(path));
    if (entry.type !== "dir") return;
    this.#known.add(name);
    this.#directories.set(path, this.#metaOf(entry));
  }

  async finish(): Promise<void> {
    const { tree } = this.#options.opened;
    // A later entry, or the container, may have taken one's place.
    for (const [path, meta] of [...this.#directories].reverse()) await tree.setDirectoryMeta(toBytes(path), meta);
    await tree.flush();
  }

  /** In Docker's words, when it is about an entry that may not replace what is there. */
  rendered(error: unknown): unknown {
    if (!isEngineError(error) || error.details["op"] !== "expect") return error;
    const { errno, path } = error.details;
    const root = posix.resolve("/", this.#options.absolute);
    const shown = JSON.stringify(posix.join(root, String(path).slice(this.#options.at.length)));
    const what = errno === "EISDIR" ? `directory ${shown} with non-directory` : errno === "ENOTDIR" ? `non-directory ${shown} with directory` : undefined;
    return what === undefined
      ? error
      : new EngineError("invalid", `cannot overwrite ${what} ${JSON.stringify(root)}`, { cause: error, details: error.details });
  }

  /** A member's name below the directory; "" is the directory itself, which stays as it is. */
  #inside(name: ByteString): ByteString {
    const root = posix.resolve("/", this.#options.absolute);
    const full = posix.join(root, name);
    if (full !== root && !full.startsWith(root === "/" ? "/" : `${root}/`))
      throw new EngineError("invalid", `${JSON.stringify(printable(name))} is outside of ${JSON.stringify(root)}`);
    return full.slice(root.length).replace(/^\/+|\/+$/g, "");
  }

  async #makeParents(name: ByteString, entry: TarEntry): Promise<void> {
    if (name === "" || this.#known.has(name)) return;
    await this.#makeParents(parentOf(name), entry);
    const { tree } = this.#options.opened;
    const path = toBytes(joinPath(this.#at, name));
    await tree.ensureDirectory(path, { mode: 0o755, uid: 0, gid: 0, mtimeNs: entry.mtimeNs, ...this.#options.owner });
    this.#known.add(name);
  }

  async #create(entry: TarEntry, path: Uint8Array): Promise<void> {
    const { tree } = this.#options.opened;
    const meta = this.#metaOf(entry);
    switch (entry.type) {
      case "dir":
        return tree.mkdir(path, meta);
      case "symlink":
        return tree.symlink(path, toBytes(entry.linkname), meta);
      case "link":
        await tree.remove(path);
        return tree.link(path, toBytes(joinPath(this.#at, this.#inside(entry.linkname))));
      case "file":
        return this.#writeFile(entry, path, meta);
      default:
        return tree.mknod(path, entry.type, entry.major, entry.minor, meta);
    }
  }

  async #writeFile(entry: TarEntry, path: Uint8Array, meta: FileMeta): Promise<void> {
    const { tree } = this.#options.opened;
    await tree.openFile(path, entry.sparse === undefined ? entry.size : 0);
    const extents = entry.sparse ?? [{ offset: 0, length: entry.size }];
    let at = 0;
    let piece: Uint8Array = new Uint8Array();
    for (const { offset, length } of extents) {
      if (offset > at) await tree.skip(offset - at);
      for (let left = length; left > 0; ) {
        if (piece.byteLength === 0) piece = (await this.#reader.read()) ?? new Uint8Array();
        if (piece.byteLength === 0) throw new EngineError("invalid", `${JSON.stringify(printable(baseOf(entry.name)))}: unexpected end of archive`);
        const part = piece.subarray(0, left);
        piece = piece.subarray(part.byteLength);
        left -= part.byteLength;
        await tree.writeData(part);
      }
      at = offset + length;
    }
    if (entry.size > at) await tree.skip(entry.size - at);
    await tree.closeFile(meta);
  }

  #metaOf({ mode, uid, gid, mtimeNs, xattrs }: TarEntry): FileMeta {
    const { owner } = this.#options;
    const kept = xattrs.filter(({ name }) => !isOverlayXattr(name));
    return { mode, uid, gid, mtimeNs, ...owner, ...(kept.length === 0 ? {} : { xattrs: kept }) };
  }
}
