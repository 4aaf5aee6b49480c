/**
 * What a container or an exec leaves behind when it has gone: deleted a little later, all that has gathered by one call of the helper. Whatever a crash leaves of it, the
 * sweep of the next start removes.
 * @module
 */
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "#core/errors.ts";
import { Gather } from "#core/gather.ts";
import type { Helper } from "#linux/helper.ts";
import { removeTogether } from "#linux/remove-together.ts";

/** Long enough for the command that ends with a container to be over. */
const GATHER_MS = 100;
/** So many entries are worth a call. */
const ENOUGH = 256;

/** Absolute paths, the engine's own; whatever is missing is no error. */
interface Leftover {
  readonly files: readonly string[];
  /** With all that is in it, which is mostly a few files. */
  readonly directory: string | undefined;
}

export class Leftovers {
  readonly #helper: Pick<Helper, "call">;
  readonly #warn: (message: string) => void;
  readonly #gather: Gather<Leftover> = new Gather(GATHER_MS, (all) => this.#delete(all));

  /** `warn` is told of failures: nobody else is there to hear them. */
  constructor(helper: Pick<Helper, "call">, warn: (message: string) => void) {
    this.#helper = helper;
    this.#warn = warn;
  }

  add(files: readonly string[], directory?: string): void {
    this.#gather.add({ files, directory });
  }

  /** Deletes them now. */
  flush(): Promise<void> {
    return this.#gather.flush();
  }

  /** Deletes them now; what is left behind later (an exec that ends with the daemon) is the next start's. */
  close(): Promise<void> {
    return this.#gather.close();
  }

  async #delete(all: readonly Leftover[]): Promise<void> {
    try {
      let [files, directories]: [string[], string[]] = [[], []];
      for (const [at, { files: more, directory }] of all.entries()) {
        files.push(...more);
        if (directory !== undefined) {
          files.push(...(await namesIn(directory)).map((name) => join(directory, name)));
          directories.push(directory);
        }
        if (files.length < ENOUGH && at + 1 < all.length) continue;
        const plain = await removeTogether(this.#helper, files, directories);
        // Some have directories in them, at the first of which the call has ended.
        if (!plain) for (const path of [...files, ...directories]) await rm(path, { recursive: true, force: true });
        [files, directories] = [[], []];
      }
    } catch (error) {
      this.#warn(`deleting what removed containers have left: ${(error as Error).message}`);
    }
  }
}

/** None where the sweep of a start, or a repair, has been faster. */
async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
    return [];
  }
}
