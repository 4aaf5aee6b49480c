import { EngineError } from "#core/errors.ts";
import { type ByteString, corrupt, printable } from "../bytes.ts";
import { ByteSource } from "./byte-source.ts";
import { type Extent, type TarEntry, type TarType, type Xattr, blockSize, paddingAfter } from "./entry.ts";
import { type RawHeader, isZeroBlock, parseHeader, parseNumber, text } from "./header.ts";
import { type PaxRecords, parsePax, parsePaxTime } from "./pax.ts";
import { checkExtents, gnuSparse, parseGnuExtents, parsePaxMap, readLeadingMap } from "./sparse.ts";

const maxPaxBytes = 1024 * 1024;
/** Linux' PATH_MAX, and the terminating NUL. */
const maxName = 4096;
/** Extended headers in front of one member. Two or three occur. */
const maxExtended = 16;

export interface TarReaderOptions {
  /** Every byte of the archive that {@link TarReader.read} does not return, in order: headers, padding, skipped data, what follows the end. */
  readonly onMeta?: (bytes: Uint8Array) => void;
  /** Accept an archive that stops between two members without the two zero blocks, as Go's reader does: for those whose digest is known. */
  readonly allowMissingEnd?: boolean;
}

/** Types of headers that describe the next member. */
const headersOfNext = "xgXLK";
/** And those of members that more blocks than one describe: their characters. */
const extendedTypes: ReadonlySet<number> = new Set(Buffer.from(`${headersOfNext}S`));

/** What extended headers have said about the next member. */
interface Extended {
  pax: PaxRecords;
  longName: ByteString | undefined;
  longLink: ByteString | undefined;
}

const nothingExtended: Extended = { pax: [], longName: undefined, longLink: undefined };

/** A member, before it is known which of it is holes. */
interface Member {
  readonly name: ByteString;
  readonly type: TarType;
  readonly isFile: boolean;
  /** Bytes in the archive. */
  readonly stored: number;
  readonly header: RawHeader;
  readonly pax: PaxFields;
  readonly extended: Extended;
}

const types: Readonly<Record<string, TarType>> = {
  "\0": "file",
  "0": "file",
  "7": "file",
  S: "file",
  "1": "link",
  "2": "symlink",
  "3": "char",
  "4": "block",
  "5": "dir",
  D: "dir",
  "6": "fifo",
};

/**
 * Reads a tar stream member by member, in any of the dialects that images come in: v7, ustar, star's, GNU (long names, base 256, sparse) and pax. Data is passed on in
 * the chunks it came in, uncopied. What is not a tar, or not all of one, is an EngineError "corrupt" that names the member; nothing a header says makes the reader hold more than
 * a bounded amount.
 */
export class TarReader {
  readonly #source: ByteSource;
  readonly #options: TarReaderOptions;
  /** Stored data and padding of the current member that have not been consumed. */
  #data = 0;
  #padding = 0;
  #last: ByteString | undefined;
  #globals: PaxRecords = [];
  /** The last member's time, and the same in nanoseconds. */
  #seconds = 0;
  #secondsNs = 0n;

  constructor(source: AsyncIterable<Uint8Array>, options: TarReaderOptions = {}) {
    this.#source = new ByteSource(source);
    this.#options = options;
  }

  /**
   * The next member where nothing has to be waited for or looked up: its header is here and no further ones describe it, as of nearly all members. undefined = nothing was taken, {@link next} sees to it.
   */
  nextReady(): TarEntry | undefined {
    const before = this.#data + this.#padding;
    if (this.#source.ready < before + blockSize) return undefined;
    const block = this.#source.peek(before, blockSize);
    if (block[0] === 0 || extendedTypes.has(block[156]!)) return undefined;
    const header = parseHeader(block, this.#where);
    const pax = this.#globals.length === 0 ? noPax : readPax(this.#globals, header);
    if (pax.sparseSize !== undefined) return undefined;
    if (this.#options.onMeta === undefined) this.#source.skip(before + blockSize);
    else this.#options.onMeta(this.#source.takeReady(before + blockSize));
    const member = this.#member(header, pax, nothingExtended);
    return this.#described(member, undefined);
  }

  /** The next member; what is left of the one before is skipped. undefined = the end, and the stream has been read to its end. */
  async next(): Promise<TarEntry | undefined> {
    await this.#skip(this.#data);
    await this.#skip(this.#padding);
    this.#data = 0;
    this.#padding = 0;
    const extended: Extended = { pax: [], longName: undefined, longLink: undefined };
    for (let count = 0; count <= maxExtended; count++) {
      const block = await this.#header(count > 0);
      if (block === undefined) return undefined;
      const header = parseHeader(block, this.#where);
      if (!(await this.#readExtended(header, extended))) return this.#entry(header, block, extended);
    }
    throw corrupt(`more than ${maxExtended} extended headers ${this.#where()}`);
  }

  /** The next piece of the current member's stored data; undefined when there is no more. The bytes are the source's own. */
  async read(): Promise<Uint8Array | undefined> {
    if (this.#data === 0) return undefined;
    const piece = await this.#source.piece(this.#data);
    if (piece === undefined) throw this.#truncated();
    this.#data -= piece.length;
    return piece;
  }

  /** All data of the current member where it is here in one piece, to be taken by {@link takeReady}. */
  peekReady(): Uint8Array | undefined {
    return this.#source.ready < this.#data ? undefined : this.#source.peek(0, this.#data);
  }

  /** What {@link peekReady} has given is read. */
  takeReady(): void {
    this.#source.skip(this.#data);
    this.#data = 0;
  }

  /** All data of the current member; EngineError "invalid" when it is more than `max` bytes. */
  async readAll(max: number): Promise<Buffer> {
    if (this.#data > max)
      throw new EngineError("invalid", `archive entry "${printable(this.#last ?? "")}" has ${this.#data} bytes; at most ${max} are accepted here`);
    const pieces: Uint8Array[] = [];
    for (let piece = await this.read(); piece !== undefined; piece = await this.read()) pieces.push(piece);
    return Buffer.concat(pieces);
  }

  /** Gives the source up (its `return` is called). */
  async close(): Promise<void> {
    await this.#source.close();
  }

  readonly #where = (): string => (this.#last === undefined ? "at the start of the archive" : `after entry "${printable(this.#last)}"`);

  /** `length` bytes, reported as meta; fewer when the stream ends. */
  async #take(length: number): Promise<Buffer> {
    const bytes = await this.#source.take(length);
    if (bytes.length > 0) this.#options.onMeta?.(bytes);
    return bytes;
  }

  async #takeAll(length: number): Promise<Buffer> {
    const bytes = await this.#take(length);
    if (bytes.length < length) throw this.#truncated();
    return bytes;
  }

  async #skip(length: number): Promise<void> {
    for (let missing = length; missing > 0; ) {
      const piece = await this.#source.piece(missing);
      if (piece === undefined) throw this.#truncated();
      missing -= piece.length;
      this.#options.onMeta?.(piece);
    }
  }

  #truncated(): EngineError {
    return corrupt(
      this.#last === undefined
        ? "archive is truncated: it ends within its first header"
        : `archive is truncated: it ends within entry "${printable(this.#last)}"`,
    );
  }

  /** The next header block; undefined at the end of the archive, when the rest has been read too. */
  async #header(within: boolean): Promise<Buffer | undefined> {
    const block = await this.#take(blockSize);
    if (block.length === 0) {
      if (!within && this.#options.allowMissingEnd === true) return undefined;
      throw corrupt(this.#last === undefined && !within ? "archive is empty" : `archive is truncated: it ends ${this.#where()} without its end blocks`);
    }
    if (block.length < blockSize) throw corrupt(`archive is truncated: it ends in a header ${this.#where()}`);
    if (!isZeroBlock(block)) return block;
    if (within) throw corrupt(`extended header ${this.#where()} is not followed by an entry`);
    const second = await this.#take(blockSize);
    const ends = second.length === blockSize ? isZeroBlock(second) : second.length === 0 && this.#options.allowMissingEnd === true;
    if (!ends)
      throw corrupt(
        second.length === blockSize ? `data follows a lone zero block ${this.#where()}` : `archive is truncated: it ends ${this.#where()} with one end block`,
      );
    for (let rest = await this.#source.piece(Number.MAX_SAFE_INTEGER); rest !== undefined; rest = await this.#source.piece(Number.MAX_SAFE_INTEGER))
      this.#options.onMeta?.(rest);
    return undefined;
  }

  /** True when the header was one that describes the next. */
  async #readExtended(header: RawHeader, extended: Extended): Promise<boolean> {
    const { typeflag } = header;
    if (!headersOfNext.includes(typeflag)) return false;
    const limit = typeflag === "L" || typeflag === "K" ? maxName : maxPaxBytes;
    if (header.size < 0 || header.size > limit) throw corrupt(`extended header ${this.#where()} has ${header.size} bytes; at most ${limit} are accepted`);
    const body = await this.#takeAll(header.size);
    await this.#takeAll(paddingAfter(header.size));
    if (typeflag === "L") extended.longName = text(body, 0, body.length);
    else if (typeflag === "K") extended.longLink = text(body, 0, body.length);
    else if (typeflag === "g") this.#globals = mergeGlobals(this.#globals, parsePax(body, this.#where));
    else extended.pax = parsePax(body, this.#where);
    return true;
  }

  async #entry(header: RawHeader, block: Buffer, extended: Extended): Promise<TarEntry> {
    const pax = readPax(this.#globals.length === 0 ? extended.pax : [...this.#globals, ...extended.pax], header);
    const member = this.#member(header, pax, extended);
    const sparse = member.isFile ? await this.#sparse(header, block, pax, member.name) : undefined;
    if (sparse !== undefined) checkExtents(sparse.extents, sparse.size, this.#data, member.name);
    return this.#described(member, sparse);
  }

  /** Checks what the header says; its data is what comes next. */
  #member(header: RawHeader, pax: PaxFields, extended: Extended): Member {
    const said = extended.longName ?? pax.sparseName ?? pax.path;
    // What a header's own field says is short, and ends at a NUL.
    const name = said === undefined ? header.name : checkName(said, "name");
    this.#last = name;
    const type = types[header.typeflag];
    if (type === undefined) throw corrupt(`archive entry "${printable(name)}" has the unknown type "${printable(header.typeflag)}"`);
    const isDirectory = type === "dir" || (type === "file" && name.endsWith("/"));
    const isFile = type === "file" && !isDirectory;
    const size = pax.size ?? header.size;
    if (isFile && size < 0) throw corrupt(`archive entry "${printable(name)}" has a negative size`);
    // As Go reads them (and so every registry's layers): what is no file has no data, whatever its size field says. GNU's dump directories do.
    const stored = isFile || header.typeflag === "D" ? Math.max(size, 0) : 0;
    this.#data = stored;
    this.#padding = paddingAfter(stored);
    return { name, type: isDirectory ? "dir" : type, isFile, stored, header, pax, extended };
  }

  #described(
    { name, type, isFile, stored, header, pax, extended }: Member,
    sparse: { readonly size: number; readonly extents: readonly Extent[] } | undefined,
  ): TarEntry {
    return {
      name,
      type,
      linkname: type === "link" || type === "symlink" ? checkName(extended.longLink ?? pax.linkpath ?? header.linkname, `target of "${printable(name)}"`) : "",
      mode: header.mode & 0o7777,
      uid: checkId(pax.uid ?? header.uid, name),
      gid: checkId(pax.gid ?? header.gid, name),
      size: sparse?.size ?? (isFile ? stored : 0),
      storedSize: isFile ? this.#data : 0,
      dataOffset: this.#source.position,
      mtimeNs: pax.mtimeNs ?? this.#nanoseconds(header.mtime),
      major: header.major,
      minor: header.minor,
      xattrs: pax.xattrs,
      sparse: sparse?.extents,
    };
  }

  /** Members that follow each other have the same time more often than not. */
  #nanoseconds(seconds: number): bigint {
    if (seconds !== this.#seconds) {
      this.#seconds = seconds;
      this.#secondsNs = BigInt(seconds) * 1_000_000_000n;
    }
    return this.#secondsNs;
  }

  async #sparse(header: RawHeader, block: Buffer, pax: PaxFields, name: ByteString): Promise<{ size: number; extents: Extent[] } | undefined> {
    if (header.typeflag === "S") {
      const size = parseNumber(block, gnuSparse.realSize, 12);
      if (size === undefined || size < 0) throw corrupt(`archive entry "${printable(name)}" has an invalid size`);
      const extents: Extent[] = [];
      parseGnuExtents(block, gnuSparse.firstMap, gnuSparse.firstCount, extents, name);
      for (let more = block[gnuSparse.extended] !== 0; more; ) {
        const next = await this.#takeAll(blockSize);
        parseGnuExtents(next, 0, gnuSparse.nextCount, extents, name);
        more = next[gnuSparse.nextExtended] !== 0;
      }
      return { size, extents };
    }
    if (pax.sparseSize === undefined) return undefined;
    if (pax.sparseMajor !== "1") return pax.sparseMap === undefined ? undefined : { size: pax.sparseSize, extents: parsePaxMap(pax.sparseMap, name) };
    const extents = await readLeadingMap(async () => {
      if (this.#data < blockSize) throw corrupt(`archive entry "${printable(name)}" has an invalid sparse map`);
      this.#data -= blockSize;
      return this.#takeAll(blockSize);
    }, name);
    return { size: pax.sparseSize, extents };
  }
}

/** What pax records say, parsed. */
interface PaxFields {
  path?: ByteString;
  linkpath?: ByteString;
  size?: number;
  uid?: number;
  gid?: number;
  mtimeNs?: bigint;
  xattrs: readonly Xattr[];
  sparseMajor?: string;
  sparseName?: ByteString;
  sparseSize?: number;
  sparseMap?: string;
}

const noPax: PaxFields = { xattrs: [] };

function readPax(records: PaxRecords, header: RawHeader): PaxFields {
  if (records.length === 0) return noPax;
  const fields: PaxFields = { xattrs: [] };
  const xattrs = new Map<string, Uint8Array>();
  const base64: [string, string][] = [];
  const pairs: string[] = [];
  const bad = (key: string) => corrupt(`archive entry "${printable(fields.path ?? header.name)}" has an invalid ${printable(key)}`);
  const integer = (key: string, value: string) => {
    const number = Number(value);
    if (!/^-?[0-9]{1,16}$/.test(value) || !Number.isSafeInteger(number)) throw bad(key);
    return number;
  };
  for (const [key, value] of records) {
    if (key.startsWith("SCHILY.xattr.")) xattrs.set(Buffer.from(key.slice(13), "latin1").toString(), Buffer.from(value, "latin1"));
    else if (key.startsWith("LIBARCHIVE.xattr.")) base64.push([key.slice(17), value]);
    else if (key === "GNU.sparse.offset" || key === "GNU.sparse.numbytes") pairs.push(value);
    // An empty value takes an earlier (global) one back.
    else if (key === "path") assign(fields, "path", value === "" ? undefined : value);
    else if (key === "linkpath") assign(fields, "linkpath", value === "" ? undefined : value);
    else if (key === "size" || key === "uid" || key === "gid") assign(fields, key, value === "" ? undefined : integer(key, value));
    else if (key === "mtime") {
      const ns = parsePaxTime(value);
      if (ns === undefined && value !== "") throw bad(key);
      assign(fields, "mtimeNs", ns);
    } else if (key === "GNU.sparse.name") fields.sparseName = value;
    else if (key === "GNU.sparse.size" || key === "GNU.sparse.realsize") {
      fields.sparseSize = integer(key, value);
      if (fields.sparseSize < 0) throw bad(key);
    } else if (key === "GNU.sparse.map") fields.sparseMap = value;
    else if (key === "GNU.sparse.major") fields.sparseMajor = value;
  }
  if (pairs.length > 0 && fields.sparseMap === undefined) fields.sparseMap = pairs.join(",");
  for (const [key, value] of base64) {
    const name = decodeUrl(key);
    if (name === undefined) throw bad("LIBARCHIVE.xattr");
    if (!xattrs.has(name)) xattrs.set(name, Buffer.from(value, "base64"));
  }
  for (const name of xattrs.keys()) if (name === "" || name.includes("\0") || name.length > 255) throw bad("extended attribute");
  fields.xattrs = Array.from(xattrs, ([name, value]) => ({ name, value }));
  return fields;
}

function assign<K extends "path" | "linkpath" | "size" | "uid" | "gid" | "mtimeNs">(fields: PaxFields, key: K, value: PaxFields[K] | undefined): void {
  if (value === undefined) delete fields[key];
  else fields[key] = value;
}

function decodeUrl(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    // Malformed %-sequences: the caller says which member has them.
    return undefined;
  }
}

/** Later global records replace earlier ones of their key. */
function mergeGlobals(old: PaxRecords, records: PaxRecords): PaxRecords {
  const keys = new Set(records.map(([key]) => key));
  const merged = [...old.filter(([key]) => !keys.has(key)), ...records];
  if (merged.reduce((sum, [key, value]) => sum + key.length + value.length, 0) > maxPaxBytes)
    throw corrupt(`archive's global headers amount to more than ${maxPaxBytes} bytes`);
  return merged;
}

function checkName(name: ByteString, what: string): ByteString {
  if (name.length >= maxName)
    throw corrupt(`archive entry's ${what} has ${name.length} bytes ("${printable(name.slice(0, 60))}…"); at most ${maxName - 1} are possible`);
  if (name.includes("\0")) throw corrupt(`archive entry's ${what} contains a NUL: "${printable(name)}"`);
  return name;
}

function checkId(id: number, name: ByteString): number {
  // 2^32-1 is "leave it" for chown(2).
  if (id < 0 || id >= 0xffffffff) throw corrupt(`archive entry "${printable(name)}" has the invalid owner ${id}`);
  return id;
}
