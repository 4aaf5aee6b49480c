import { randomBytes } from "node:crypto";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { asStorageError } from "#core/storage-error.ts";

/** `<dataRoot>/image/ingest`: archives while they arrive, a directory each. */
export class Receiving {
  readonly #root: string;
  readonly #open = new Set<string>();

  private constructor(root: string) {
    this.#root = root;
  }

  static async open(root: string): Promise<Receiving> {
    await mkdir(root, { recursive: true, mode: 0o700 });
    return new Receiving(root);
  }

  /** A new directory, which goes with everything in it when it is disposed of. */
  async begin(): Promise<AsyncDisposable & { readonly directory: string }> {
    const name = randomBytes(8).toString("hex");
    const directory = join(this.#root, name);
    this.#open.add(name);
    try {
      await mkdir(directory, { mode: 0o700 });
    } catch (error) {
      this.#open.delete(name);
      throw asStorageError(error, "receiving the archive");
    }
    return {
      directory,
      [Symbol.asyncDispose]: async () => {
        await rm(directory, { recursive: true, force: true });
        this.#open.delete(name);
      },
    };
  }

  /** Removes what a crash has left. */
  async sweep(): Promise<void> {
    for (const name of await readdir(this.#root)) if (!this.#open.has(name)) await rm(join(this.#root, name), { recursive: true, force: true });
  }
}
