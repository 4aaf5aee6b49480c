import { appendFile, mkdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { Slots } from "#core/slots.ts";
import { asStorageError } from "#core/storage-error.ts";
import { textIfThere } from "#linux/text-if-there.ts";

/** Lines that say nothing any more are left in the file until there are so many more than twice what is needed. */
const slack = 1000;

/**
 * What thousands of small files say, once more in one file, so that a start reads one: a line of JSON for each thing put down or taken back, the last of a name counts. It is a help and no more: which names there are is
 * for the directory to say, a name that is not here is looked at there, and a line that a crash has cut is none. So nothing waits for the disk, and nothing fails when it is full.
 * @typeParam T what is kept of a name, as JSON
 */
export class LayerIndex<T> {
  readonly #path: string;
  readonly #entries: Map<string, T>;
  #lines: number;
  /** One change of the file after the other. */
  readonly #turn = new Slots(1);

  private constructor(path: string, entries: Map<string, T>, lines: number) {
    this.#path = path;
    this.#entries = entries;
    this.#lines = lines;
  }

  /** @param parse checks what is read back; undefined = it is not what we have written */
  static async open<T>(path: string, parse: (value: unknown) => T | undefined): Promise<LayerIndex<T>> {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    // What a crash has left of writing it anew.
    await rm(`${path}.tmp`, { force: true });
    const entries = new Map<string, T>();
    const lines = (await textOf(path)).split("\n");
    for (const line of lines) {
      const [name, value] = parseLine(line);
      if (name === undefined) continue;
      const kept = value === undefined ? undefined : parse(value);
      if (kept === undefined) entries.delete(name);
      else entries.set(name, kept);
    }
    return new LayerIndex(path, entries, lines.length - 1);
  }

  get(name: string): T | undefined {
    return this.#entries.get(name);
  }

  /** Puts it down; `undefined` takes it back. */
  async set(name: string, value: T | undefined): Promise<void> {
    if (value === undefined && !this.#entries.has(name)) return;
    this.#remember(name, value);
    await this.#serially(async () => {
      if (++this.#lines > 2 * this.#entries.size + slack) await this.#write();
      else await appendFile(this.#path, `${JSON.stringify([name, value])}\n`, { mode: 0o600 });
    });
  }

  /** At a start: these, and no others, are there. Written anew when that is news. */
  async replace(all: ReadonlyMap<string, T>): Promise<void> {
    const same = all.size === this.#entries.size && [...all].every(([name, value]) => this.#entries.get(name) === value);
    if (same && this.#lines <= 2 * all.size + slack) return;
    for (const name of [...this.#entries.keys()]) if (!all.has(name)) this.#entries.delete(name);
    for (const [name, value] of all) this.#entries.set(name, value);
    await this.#serially(() => this.#write());
  }

  async #write(): Promise<void> {
    const lines = Array.from(this.#entries, (entry) => `${JSON.stringify(entry)}\n`);
    await writeFile(`${this.#path}.tmp`, lines.join(""), { mode: 0o600 });
    await rename(`${this.#path}.tmp`, this.#path);
    this.#lines = lines.length;
  }

  #remember(name: string, value: T | undefined): void {
    if (value === undefined) this.#entries.delete(name);
    else this.#entries.set(name, value);
  }

  /** On a full disk the file goes, which needs no room: layers can be removed there, and the next start reads the directories. EngineError "storage" when it cannot go. */
  #serially(work: () => Promise<void>): Promise<void> {
    return this.#turn.run(async () => {
      try {
        await work();
      } catch {
        await this.#drop();
      }
    });
  }

  async #drop(): Promise<void> {
    try {
      for (const path of [this.#path, `${this.#path}.tmp`]) await rm(path, { force: true });
      this.#lines = 0;
    } catch (error) {
      throw asStorageError(error, `removing ${this.#path}`);
    }
  }
}

async function textOf(path: string): Promise<string> {
  try {
    return await textIfThere(path);
  } catch (error) {
    throw asStorageError(error, `reading ${path}`);
  }
}

function parseLine(line: string): readonly [name: string | undefined, value: unknown] {
  try {
    const [name, value] = JSON.parse(line) as unknown[];
    return [typeof name === "string" ? name : undefined, value];
  } catch {
    // Cut by a crash; or the end of the file.
    return [undefined, undefined];
  }
}
