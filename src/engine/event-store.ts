/**
 * Past events on disk: lines of JSON in `events.ndjson`, and the file before it as `.1`. Written behind the engine's back in batches, never synced: what a crash of the
 * host costs is the last moment of history.
 * @module
 */
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, rename } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { errnoOf } from "#core/errors.ts";
import { Gather } from "#core/gather.ts";
import type { EngineEvent } from "./mod.ts";

/** Of each of the two files. */
const MAX_BYTES = 16 * 1024 * 1024;

/** A command's events are one write. */
const GATHER_MS = 50;

interface Line {
  readonly t: string;
  readonly T: EngineEvent["Type"];
  readonly A: string;
  readonly I: string;
  readonly a: Readonly<Record<string, string>>;
}

export class EventStore {
  readonly #path: string;
  readonly #maxBytes: number;
  readonly #warn: (message: string) => void;
  #file: FileHandle;
  #size: number;
  readonly #lines: Gather<EngineEvent> = new Gather(GATHER_MS, (events) => this.#write(events.map(lineOf).join("")));
  #failed = false;

  private constructor(path: string, file: FileHandle, size: number, options: { readonly maxBytes: number; readonly warn: (message: string) => void }) {
    this.#path = path;
    this.#file = file;
    this.#size = size;
    this.#maxBytes = options.maxBytes;
    this.#warn = options.warn;
  }

  static async open(directory: string, options: { readonly warn: (message: string) => void; readonly maxBytes?: number }): Promise<EventStore> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const path = join(directory, "events.ndjson");
    const file = await open(path, "a", 0o600);
    const { size } = await file.stat();
    // A line that a crash has torn must not swallow the next one.
    if (size > 0) await file.write("\n");
    return new EventStore(path, file, size, { maxBytes: MAX_BYTES, ...options });
  }

  append(event: EngineEvent): void {
    this.#lines.add(event);
  }

  async #write(text: string): Promise<void> {
    try {
      if (this.#size >= this.#maxBytes) await this.#rotate();
      const bytes = Buffer.from(text);
      for (let done = 0; done < bytes.length; ) done += (await this.#file.write(bytes, done)).bytesWritten;
      this.#size += bytes.length;
      this.#failed = false;
    } catch (error) {
      if (!this.#failed) this.#warn(`events are not remembered: ${(error as Error).message}`);
      this.#failed = true;
    }
  }

  async #rotate(): Promise<void> {
    const full = this.#file;
    await rename(this.#path, `${this.#path}.1`);
    this.#file = await open(this.#path, "a", 0o600);
    this.#size = 0;
    await full.close();
  }

  /** Events after a time, oldest first, as far as there are any. */
  async *read(afterNs: bigint): AsyncGenerator<EngineEvent> {
    await this.#lines.flush();
    // The newer first: a rotation in between shows us one file twice, and `last` skips it; none is missed.
    const files = [await openIfThere(this.#path), await openIfThere(`${this.#path}.1`)].reverse();
    let last = afterNs;
    try {
      for (const file of files) {
        if (file === undefined) continue;
        const input = createReadStream("", { fd: file.fd, start: 0, autoClose: false });
        for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
          const event = parse(line);
          if (event === undefined || event.timeNano <= last) continue;
          last = event.timeNano;
          yield event;
        }
      }
    } finally {
      for (const file of files) await file?.close();
    }
  }

  /** What happens later (an exec that ends with the daemon) is not remembered. */
  async close(): Promise<void> {
    await this.#lines.close();
    await this.#file.close();
  }
}

function lineOf({ Type, Action, Actor, timeNano }: EngineEvent): string {
  const line: Line = { t: String(timeNano), T: Type, A: Action, I: Actor.ID, a: Actor.Attributes };
  return `${JSON.stringify(line)}\n`;
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, "r");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** undefined: a torn line. */
function parse(line: string): EngineEvent | undefined {
  if (line === "") return undefined;
  try {
    const { t, T, A, I, a } = JSON.parse(line) as Line; // written by us
    return { Type: T, Action: A, Actor: { ID: I, Attributes: a }, timeNano: BigInt(t) };
  } catch {
    return undefined; // torn by a crash
  }
}
