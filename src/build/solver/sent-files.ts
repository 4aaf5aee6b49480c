import { createHash, randomBytes } from "node:crypto";
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, errnoOf, isEngineError } from "#core/errors.ts";
import { JsonFields, parseJson } from "#core/json.ts";
import { asStorageError } from "#core/storage-error.ts";
import { isZero } from "#unionfs/zeros.ts";
import type { KnownAnswers, KnownStates } from "./known-states.ts";
import type { ByteString } from "./source-tree.ts";

/** Where a file's content lies, and its digest. */
export interface StoredContent {
  /** Whose content it is: what the client said of the file. */
  readonly version: string;
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
  /** sha256, hex. */
  readonly sha256: string;
}

interface Loaded {
  readonly file: FileHandle;
  readonly known: ReadonlyMap<ByteString, StoredContent>;
}

interface Block {
  readonly start: number;
  readonly bytes: Buffer;
}

const blockBytes = 1024 * 1024;

/** What no build needs may take this much, or as much as what is needed, before all of it goes. Bytes. */
const maxGarbage = 64 * 1024 * 1024;

/**
 * Contents of files that a client has sent of one directory, so that its next build sends only what is changed: one file that grows, and an index of it that is replaced when a
 * build ends. What is beyond the index (a crash) is overwritten.
 */
export class SentFiles {
  readonly #directory: string;
  readonly answers: (stamp: string) => KnownAnswers;
  readonly #before: Promise<unknown> | undefined;
  readonly #used = new Map<ByteString, StoredContent>();
  #loading: Promise<void> | undefined;
  #loaded: Loaded | undefined;
  #end = 0;
  #block: Block | undefined;
  users = 0;

  /** `answers`: what is known of a state of the directory. `before`: builds that are about to write their index down. */
  constructor(directory: string, answers: (stamp: string) => KnownAnswers, before?: Promise<unknown>) {
    this.#directory = directory;
    this.answers = answers;
    this.#before = before;
  }

  /** Before anything is asked for, or comes. */
  load(): Promise<void> {
    return (this.#loading ??= this.#load());
  }

  async #load(): Promise<void> {
    await this.#before;
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const known = await readIndex(join(this.#directory, "index.json"));
    const file = await open(join(this.#directory, "contents"), known === undefined ? "w+" : "r+", 0o600);
    let end = 0;
    for (const { offset, size } of known?.values() ?? []) end = Math.max(end, offset + size);
    // An index without its contents is worth nothing.
    const isWhole = (await file.stat()).size >= end;
    this.#end = isWhole ? end : 0;
    await file.truncate(this.#end);
    this.#loaded = { file, known: (isWhole ? known : undefined) ?? new Map() };
  }

  get #contents(): Loaded {
    if (this.#loaded === undefined) throw new EngineError("internal", "a context's files are asked for before they are loaded");
    return this.#loaded;
  }

  /** The content of that version of a file, if it is here. */
  find(path: ByteString, version: string): StoredContent | undefined {
    const found = this.#used.get(path) ?? this.#contents.known.get(path);
    if (found?.version !== version) return undefined;
    this.#used.set(path, found);
    return found;
  }

  /** Room for a content that is about to come. */
  begin(path: ByteString, version: string, size: number): IncomingContent {
    const offset = this.#end;
    this.#end += size;
    const hash = createHash("sha256");
    let at = 0;
    return {
      write: async (piece) => {
        if (at + piece.byteLength > size) throw new EngineError("invalid", "the file has grown while it was sent: build again");
        hash.update(piece);
        const position = offset + at;
        at += piece.byteLength;
        this.#block = undefined;
        // Zeros stay a hole, of which a disk image has many.
        if (isZero(piece)) return;
        await this.#contents.file.write(piece, 0, piece.byteLength, position).catch((error: unknown) => {
          throw asStorageError(error, "receiving the build context");
        });
      },
      end: async () => {
        if (at !== size) throw new EngineError("invalid", "the file has shrunk while it was sent: build again");
        await this.#reach(offset + size);
        const stored = { version, offset, size, sha256: hash.digest("hex") };
        this.#used.set(path, stored);
        return stored;
      },
    };
  }

  async *read({ offset, size }: StoredContent): AsyncIterable<Uint8Array> {
    for (let at = offset; at < offset + size; ) {
      const { start, bytes } = await this.#blockAt(at);
      const piece = bytes.subarray(at - start, offset + size - start);
      if (piece.length === 0) throw new EngineError("storage", "what a client has sent is not there any more", { hint: "build again" });
      yield piece;
      at += piece.length;
    }
  }

  /** Small files lie side by side in the order in which they are read. */
  async #blockAt(position: number): Promise<Block> {
    const last = this.#block;
    if (last !== undefined && position >= last.start && position < last.start + last.bytes.length) return last;
    const buffer = Buffer.allocUnsafe(blockBytes);
    const { bytesRead } = await this.#contents.file.read(buffer, 0, buffer.length, position);
    const block = { start: position, bytes: buffer.subarray(0, bytesRead) };
    this.#block = block;
    return block;
  }

  /** A hole at the end is part of the file, too. */
  async #reach(end: number): Promise<void> {
    const { file } = this.#contents;
    if ((await file.stat()).size < end) await file.truncate(end);
  }

  /** What was used is what the next build may find. */
  async close(): Promise<void> {
    const path = join(this.#directory, "index.json");
    const touch = async () => {
      const now = new Date();
      await utimes(path, now, now).catch((error: unknown) => {
        if (errnoOf(error) !== "ENOENT") throw error;
      });
    };
    await this.#loading?.catch(() => undefined);
    // Nobody has asked for any of them: all are as they were, and used just now.
    if (this.#loaded === undefined) return touch();
    const { file, known } = this.#loaded;
    await file.close();
    const needed = [...this.#used.values()].reduce((sum, { size }) => sum + size, 0);
    if (this.#end - needed > Math.max(needed, maxGarbage)) {
      await rm(this.#directory, { recursive: true, force: true });
      return;
    }
    if (known.size > 0 && this.#used.size === known.size && [...this.#used].every(([name, content]) => known.get(name) === content)) return touch();
    const files = Array.from(this.#used, ([name, { version, offset, size, sha256 }]) => ({ name, version, offset, size, sha256 }));
    await writeFile(`${path}.tmp`, JSON.stringify({ version: 1, files }), { mode: 0o600 });
    await rename(`${path}.tmp`, path);
  }
}

export interface IncomingContent {
  write(piece: Uint8Array): Promise<void>;
  /** @throws EngineError "invalid" when it is not as long as was said */
  end(): Promise<StoredContent>;
}

async function readIndex(path: string): Promise<Map<ByteString, StoredContent> | undefined> {
  try {
    const fields = new JsonFields(parseJson(await readFile(path), path), path);
    if (fields.number("version") !== 1) return undefined;
    return new Map(
      (fields.list("files") ?? []).map((value) => {
        const file = new JsonFields(value, path);
        const stored = {
          version: file.text("version") ?? "",
          offset: file.number("offset") ?? 0,
          size: file.number("size") ?? 0,
          sha256: file.text("sha256") ?? "",
        };
        return [file.text("name") ?? "", stored];
      }),
    );
  } catch (error) {
    // It is only to save sending: what cannot be read is as good as none.
    if (errnoOf(error) === "ENOENT" || isEngineError(error, "corrupt")) return undefined;
    throw error;
  }
}

/** The {@link SentFiles} of each directory of each client. */
export class SentDirectories {
  readonly #root: string;
  readonly #maxBytes: number;
  readonly #open = new Map<string, SentFiles>();
  readonly #closing = new Map<string, Promise<unknown>>();
  readonly #states: KnownStates;

  /** `maxBytes`: the least recently used go beyond that, when nobody uses them. */
  constructor(root: string, maxBytes: number, states: KnownStates) {
    this.#states = states;
    this.#root = root;
    this.#maxBytes = maxBytes;
  }

  /** `key`: how the client calls the directory; undefined: what it sends is of no use later. */
  acquire(key: string | undefined): { readonly files: SentFiles; release(): Promise<void> } {
    const name = key === undefined ? `once-${randomBytes(8).toString("hex")}` : createHash("sha256").update(key).digest("hex").slice(0, 32);
    const files = this.#open.get(name) ?? new SentFiles(join(this.#root, name), (stamp) => this.#states.of(`${name} ${stamp}`), this.#closing.get(name));
    this.#open.set(name, files);
    files.users++;
    const release = async () => {
      if (--files.users > 0) return;
      this.#open.delete(name);
      const closed = files.close();
      const settled = closed.catch(() => undefined); // its own caller learns of it
      this.#closing.set(name, settled);
      await closed.finally(() => {
        if (this.#closing.get(name) === settled) this.#closing.delete(name);
      });
      if (key === undefined) await rm(join(this.#root, name), { recursive: true, force: true });
      else await this.#makeRoom();
    };
    return { files, release };
  }

  /** Removes what nobody uses now. */
  async prune(): Promise<void> {
    for (const { name } of await this.#unused()) await rm(join(this.#root, name), { recursive: true, force: true });
  }

  async #makeRoom(): Promise<void> {
    const unused = (await this.#unused()).sort((a, b) => b.usedAtMs - a.usedAtMs);
    let bytes = 0;
    for (const { name, size } of unused) {
      bytes += size;
      if (bytes > this.#maxBytes) await rm(join(this.#root, name), { recursive: true, force: true });
    }
  }

  async #unused(): Promise<{ readonly name: string; readonly size: number; readonly usedAtMs: number }[]> {
    const found = [];
    const names = await readdir(this.#root).catch((error: unknown) => {
      if (errnoOf(error) === "ENOENT") return [];
      throw error;
    });
    for (const name of names) {
      if (this.#open.has(name) || this.#closing.has(name)) continue;
      const [contents, index] = await Promise.all(["contents", "index.json"].map((file) => stat(join(this.#root, name, file)).catch(() => undefined)));
      // Without an index it is what a crash has left.
      found.push({ name, size: contents?.size ?? 0, usedAtMs: index?.mtimeMs ?? 0 });
    }
    return found;
  }
}
