import { createHash, randomBytes } from "node:crypto";
import { mkdir, rename, rm, chmod, chown, stat, utimes, readdir } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { MountFlag } from "../frontend/instruction.ts";
import { materialize } from "./materialize.ts";
import { pathOf, resolveWithin, type SourceTree } from "./source-tree.ts";

interface Held {
  readonly directory: string;
  release(): Promise<void>;
}

type Seed = () => Promise<{ readonly tree: SourceTree }>;

/**
 * Directories that outlive builds: `RUN --mount=type=cache`. One for each id (and for each concurrent user of a private one). They are on the data root, and never part of a layer.
 */
export class CacheMounts {
  /** For what lives no longer than one step. */
  readonly scratch: string;
  readonly #root: string;
  /** Directories in use: how often, and whether by somebody who wants to be alone. */
  readonly #users = new Map<string, { count: number; locked: boolean; readonly waiting: (() => void)[] }>();

  private constructor(root: string, scratch: string) {
    this.#root = root;
    this.scratch = scratch;
  }

  /** What a crash has left in `scratch` goes. */
  static async open(root: string, scratch: string): Promise<CacheMounts> {
    await rm(scratch, { recursive: true, force: true });
    await mkdir(root, { recursive: true, mode: 0o700 });
    await mkdir(scratch, { recursive: true, mode: 0o700 });
    return new CacheMounts(root, scratch);
  }

  /** Waits while a `locked` one is in use. */
  async acquire(mount: MountFlag, signal: AbortSignal, seed: Seed | undefined): Promise<Held> {
    const name = createHash("sha256")
      .update(JSON.stringify([mount.id ?? mount.target, mount.from ?? "", mount.from === undefined ? "" : mount.source]))
      .digest("hex")
      .slice(0, 32);
    if (mount.sharing === "private") {
      let directory = join(this.#root, name);
      for (let copy = 1; this.#users.has(directory); copy++) directory = join(this.#root, `${name}-${copy}`);
      return this.#take(directory, mount, seed, true);
    }
    const directory = join(this.#root, name);
    for (;;) {
      const users = this.#users.get(directory);
      if (users === undefined || (mount.sharing === "shared" && !users.locked)) return this.#take(directory, mount, seed, mount.sharing === "locked");
      await new Promise<void>((resolve, reject) => {
        const stop = () => reject(new EngineError("cancelled", "the build was cancelled"));
        if (signal.aborted) return stop();
        signal.addEventListener("abort", stop, { once: true });
        users.waiting.push(() => {
          signal.removeEventListener("abort", stop);
          resolve();
        });
      });
    }
  }

  async #take(directory: string, mount: MountFlag, seed: Seed | undefined, locked: boolean): Promise<Held> {
    const users = this.#users.get(directory) ?? { count: 0, locked, waiting: [] };
    users.count++;
    this.#users.set(directory, users);
    let released = false;
    const release = async () => {
      if (released) return;
      released = true;
      if (--users.count > 0) return;
      this.#users.delete(directory);
      for (const wake of users.waiting) wake();
    };
    try {
      await this.#make(directory, mount, seed);
      await utimes(directory, new Date(), new Date());
      return { directory, release };
    } catch (error) {
      await release();
      throw error;
    }
  }

  async #make(directory: string, { mode, uid, gid, source }: MountFlag, seed: Seed | undefined): Promise<void> {
    try {
      await stat(directory);
      return;
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
    }
    const temporary = join(this.scratch, randomBytes(8).toString("hex"));
    if (seed === undefined) {
      await mkdir(temporary);
    } else {
      const { tree } = await seed();
      await materialize(tree, await resolveWithin((at) => tree.lstat(at), pathOf(source), true), temporary);
    }
    if (seed === undefined || uid !== undefined || gid !== undefined) await chown(temporary, uid ?? 0, gid ?? 0);
    if (seed === undefined || mode !== undefined) await chmod(temporary, mode ?? 0o755);
    await rename(temporary, directory).catch((error: unknown) => {
      // Another build was first.
      if (errnoOf(error) !== "ENOTEMPTY" && errnoOf(error) !== "EEXIST") throw error;
      return rm(temporary, { recursive: true, force: true });
    });
  }

  /** Removes those that nobody uses now. */
  async prune(): Promise<void> {
    for (const name of await readdir(this.#root)) {
      const directory = join(this.#root, name);
      if (this.#users.has(directory)) continue;
      const aside = join(this.scratch, `gone-${randomBytes(8).toString("hex")}`);
      await rename(directory, aside);
      await rm(aside, { recursive: true, force: true });
    }
  }

  get directory(): string {
    return this.#root;
  }
}
