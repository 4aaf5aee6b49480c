/**
 * Containers on disk: `containers/<id>/container.json`, replaced by rename. What runs is not read from here after a crash but from the monitors' own files, so a
 * record may be a little behind; it is never half-written. A new one is written at once, and what is written is made to last (by fsync) in a little while: most
 * containers are gone by then (ADR 93).
 * @module
 */
import { type FileHandle, open, mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { ContainerRecord } from "./mod.ts";

/** How long a record may wait. */
const SOON_MS = 20;

const idPattern = /^[0-9a-f]{64}$/;

export class RecordStore {
  readonly root: string;
  readonly #trash: string;
  /** Per container: the newest record that waits while a write is under way. */
  readonly #pending = new Map<string, { next: ContainerRecord | undefined; done: Promise<void> }>();
  /** Per container that waits for its {@link saveSoon}: gives it up. */
  readonly #soon = new Map<string, () => void>();
  #removals = 0;

  constructor(dataRoot: string) {
    this.root = join(dataRoot, "containers");
    this.#trash = join(dataRoot, "trash");
  }

  async prepare(): Promise<void> {
    await mkdir(this.root, { recursive: true, mode: 0o710 });
    await mkdir(this.#trash, { recursive: true, mode: 0o700 });
  }

  directory(id: string): string {
    return join(this.root, id);
  }

  /** Makes the container's directory, before anything else of it. */
  async makeDirectory(id: string): Promise<void> {
    await mkdir(this.directory(id), { mode: 0o710 });
  }

  /** Makes the container's directory, and the file that its record will stand in: until then it is one that the next start throws away. */
  async makeFile(id: string): Promise<NewRecord> {
    await this.makeDirectory(id);
    return new NewRecord(await open(this.#file(id), "wx", 0o600));
  }

  /** Stores the record; resolves when this or a newer one is on disk. A container that removes itself is not worth an fsync. */
  save(record: ContainerRecord): Promise<void> {
    this.#soon.get(record.id)?.();
    const running = this.#pending.get(record.id);
    if (running !== undefined) {
      running.next = record;
      return running.done;
    }
    const state: { next: ContainerRecord | undefined; done: Promise<void> } = { next: record, done: Promise.resolve() };
    this.#pending.set(record.id, state);
    state.done = this.#drain(record.id, state);
    return state.done;
  }

  /** Stores the record in a little while, unless a newer one is stored or the container discarded before; resolves then. */
  saveSoon(record: ContainerRecord): Promise<void> {
    this.#soon.get(record.id)?.();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#soon.delete(record.id);
        this.save(record).then(resolve, reject);
      }, SOON_MS);
      this.#soon.set(record.id, () => {
        clearTimeout(timer);
        this.#soon.delete(record.id);
        resolve();
      });
    });
  }

  /** For a start that stores the record by a step of its plan: where, and as what bytes. */
  handOver(record: ContainerRecord): { readonly path: string; readonly data: Uint8Array } {
    this.#soon.get(record.id)?.();
    return { path: this.#file(record.id), data: Buffer.from(JSON.stringify(record)) };
  }

  #file(id: string): string {
    return join(this.directory(id), "container.json");
  }

  async #drain(id: string, state: { next: ContainerRecord | undefined }): Promise<void> {
    try {
      for (let record = state.next; record !== undefined; record = state.next) {
        state.next = undefined;
        await this.#write(record);
      }
    } finally {
      this.#pending.delete(id);
    }
  }

  async #write(record: ContainerRecord): Promise<void> {
    const file = this.#file(record.id);
    const temporary = `${file}.new`;
    const text = JSON.stringify(record);
    try {
      if (record.hostConfig.AutoRemove) await writeFile(temporary, text, { mode: 0o600 });
      else await writeDurably(temporary, text);
      await rename(temporary, file);
    } catch (error) {
      throw notStored(record.id, error);
    }
  }

  /** All readable records, and the directories that hold none (a creation that did not get far). */
  async load(): Promise<{ readonly records: ContainerRecord[]; readonly broken: string[] }> {
    const records: ContainerRecord[] = [];
    const broken: string[] = [];
    for (const entry of await readdir(this.root)) {
      const record = idPattern.test(entry) ? await this.#read(entry) : undefined;
      if (record === undefined) broken.push(entry);
      else records.push(record);
    }
    return { records: records.sort((a, b) => (a.created < b.created ? -1 : 1)), broken };
  }

  async #read(id: string): Promise<ContainerRecord | undefined> {
    try {
      const record = JSON.parse(await readFile(this.#file(id), "utf8")) as ContainerRecord;
      return record.version === 1 && record.id === id ? record : undefined;
    } catch (error) {
      if (errnoOf(error) === "ENOENT" || error instanceof SyntaxError) return undefined;
      throw error;
    }
  }

  /** Takes a directory below the root out of sight at once: to where it lies now, for somebody to delete it, or {@link emptyTrash}. Undefined when there was none. */
  async discard(name: string): Promise<string | undefined> {
    this.#soon.get(name)?.();
    await this.#pending.get(name)?.done.catch(() => undefined); // its failure was told to whoever saved
    const path = join(this.#trash, `container-${name}-${process.pid}-${this.#removals++}`);
    try {
      await rename(join(this.root, name), path);
      return path;
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return undefined;
      throw new EngineError("storage", `cannot remove the directory of container ${name.slice(0, 12)}: ${(error as Error).message}`, { cause: error });
    }
  }

  async emptyTrash(): Promise<void> {
    for (const entry of await readdir(this.#trash)) {
      if (entry.startsWith("container-")) await rm(join(this.#trash, entry), { recursive: true, force: true });
    }
  }
}

/** The file of a container that is being made. */
export class NewRecord {
  readonly #file: FileHandle;

  constructor(file: FileHandle) {
    this.#file = file;
  }

  /** Writes the record. It does not last yet: {@link RecordStore.saveSoon}. */
  async write(record: ContainerRecord): Promise<void> {
    try {
      await this.#file.writeFile(JSON.stringify(record));
    } catch (error) {
      throw notStored(record.id, error);
    }
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

function notStored(id: string, error: unknown): EngineError {
  return new EngineError("storage", `cannot store the record of container ${id.slice(0, 12)}: ${(error as Error).message}`, { cause: error });
}

async function writeDurably(path: string, text: string): Promise<void> {
  const file = await open(path, "w", 0o600);
  try {
    await file.writeFile(text);
    await file.datasync();
  } finally {
    await file.close();
  }
}
