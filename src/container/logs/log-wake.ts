/** Tells a reader that a log has grown, was rotated, or is complete. @module */
import { watch } from "node:fs";
import { basename, dirname } from "node:path";

export interface Wake {
  /** The writer is gone, the reader has gone, or the time is over. */
  readonly over: boolean;
  /** Resolves when something may have been written since the last wait. */
  wait(): Promise<void>;
  close(): void;
}

export function watchFor(path: string, ended: Promise<unknown>, signal?: AbortSignal, untilNs?: bigint): Wake {
  let [dirty, over] = [true, false];
  let resume: (() => void) | undefined;
  const poke = () => {
    dirty = true;
    resume?.();
    resume = undefined;
  };
  const finish = () => {
    over = true;
    poke();
  };
  // The directory, not the file: rotation renames the file.
  const name = basename(path);
  const watcher = watch(dirname(path), (_event, file) => {
    if (file === null || file === name) poke();
  });
  watcher.on("error", finish);
  ended.then(finish, finish);
  signal?.addEventListener("abort", finish, { once: true });
  if (signal?.aborted) finish();
  const msLeft = untilNs === undefined ? undefined : Number(untilNs / 1_000_000n) - Date.now();
  const timer = msLeft === undefined || msLeft > 2 ** 31 - 1 ? undefined : setTimeout(finish, Math.max(0, msLeft));
  return {
    get over() {
      return over;
    },
    async wait() {
      if (!dirty && !over) await new Promise<void>((resolve) => (resume = resolve));
      dirty = false;
    },
    close() {
      watcher.close();
      clearTimeout(timer);
      signal?.removeEventListener("abort", finish);
    },
  };
}
