/** What a command of the runtime may touch of its caller: its own process, or a stub that the daemon serves. @module */
import { resolve } from "node:path";
import { type Detached, type DetachedLaunch, launchDetached } from "#linux/detached-launch.ts";

export interface RuntimeIo {
  readonly cwd: string;
  out(text: string): void;
  err(text: string): void;
  /** Performs the plan in a process below the caller's. */
  launch(request: DetachedLaunch): Promise<Detached>;
  /** Signals that the caller gets while it waits for its program. Returns what ends that. */
  onSignal(listener: (signal: NodeJS.Signals) => void): () => void;
  /** The terminal on the caller's output, if it is one. */
  readonly screen: { size(): { readonly rows: number; readonly columns: number }; onResize(listener: () => void): void } | undefined;
  /** This is the caller's own process: its input, its descriptors and its terminal are ours. */
  readonly own: boolean;
}

/** The daemon cannot do this for the caller, and has not begun to: it needs a process of its own. */
export class NeedsOwnProcess extends Error {}

/** @throws NeedsOwnProcess unless this is the caller's process */
export function requireOwnProcess(io: RuntimeIo, why: string): void {
  if (!io.own) throw new NeedsOwnProcess(why);
}

/** A path that the caller gave; "" and undefined are none. */
export function absolute(io: RuntimeIo, path: string | undefined): string | undefined {
  return path === undefined || path === "" ? undefined : resolve(io.cwd, path);
}

const forwarded = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGCONT"] as const;

export function ownProcess(): RuntimeIo {
  const { stdout, stderr } = process;
  return {
    cwd: process.cwd(),
    out: (text) => void stdout.write(text),
    err: (text) => void stderr.write(text),
    launch: (request) => launchDetached(request),
    onSignal(listener) {
      for (const signal of forwarded) process.on(signal, listener);
      return () => {
        for (const signal of forwarded) process.off(signal, listener);
      };
    },
    screen: stdout.isTTY
      ? { size: () => ({ rows: stdout.rows, columns: stdout.columns }), onResize: (listener) => void stdout.on("resize", listener) }
      : undefined,
    own: true,
  };
}
