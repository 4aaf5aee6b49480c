/** Stays with a program until it ends: our signals are its signals, our terminal's size is its terminal's. @module */
import type { Detached } from "#linux/detached-launch.ts";
import { errnoOf } from "#core/errors.ts";

const forwarded = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGCONT"] as const;

/** The exit code, as a shell has it. */
export async function foreground(detached: Detached): Promise<number> {
  const forward = (signal: NodeJS.Signals) => {
    try {
      process.kill(detached.pid, signal);
    } catch (error) {
      if (errnoOf(error) !== "ESRCH") throw error;
    }
  };
  const resize = () => detached.resize(process.stdout.rows, process.stdout.columns);
  for (const signal of forwarded) process.on(signal, forward);
  if (process.stdout.isTTY) {
    resize();
    process.stdout.on("resize", resize);
  }
  const { code } = await detached.exited;
  for (const signal of forwarded) process.off(signal, forward);
  return code;
}
