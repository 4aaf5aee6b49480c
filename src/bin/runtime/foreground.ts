/** Stays with a program until it ends: our signals are its signals, our terminal's size is its terminal's. @module */
import type { Detached } from "#linux/detached-launch.ts";
import { errnoOf } from "#core/errors.ts";
import type { RuntimeIo } from "./io.ts";

/** The exit code, as a shell has it. */
export async function foreground(detached: Detached, io: RuntimeIo): Promise<number> {
  const stop = io.onSignal((signal) => {
    try {
      process.kill(detached.pid, signal);
    } catch (error) {
      if (errnoOf(error) !== "ESRCH") throw error;
    }
  });
  const { screen } = io;
  if (screen !== undefined) {
    const resize = () => detached.resize(screen.size().rows, screen.size().columns);
    resize();
    screen.onResize(resize);
  }
  const { code } = await detached.exited;
  stop();
  return code;
}
