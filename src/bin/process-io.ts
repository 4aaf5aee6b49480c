/** This process as a command sees it. @module */
import type { CliIo } from "#cli/io.ts";

const proxied: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM"];

/** Installs a handler that ends the process quietly when its output has no reader any more. */
export function processIo(): CliIo {
  const umask = process.umask(0);
  process.umask(umask);
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit(141);
      throw error;
    });
  }
  return {
    argv: process.argv.slice(2),
    cwd: process.cwd(),
    env: process.env,
    umask,
    get stdin() {
      return process.stdin;
    },
    stdout: process.stdout,
    stderr: process.stderr,
    isTty: { stdin: process.stdin.isTTY === true, stdout: process.stdout.isTTY === true, stderr: process.stderr.isTTY === true },
    size() {
      const screen = process.stdout.isTTY ? process.stdout : process.stderr.isTTY ? process.stderr : undefined;
      if (screen === undefined) return undefined;
      const [columns, rows] = screen.getWindowSize();
      return { rows, columns };
    },
    onResize(listener) {
      process.on("SIGWINCH", listener);
      return () => process.off("SIGWINCH", listener);
    },
    onSignal(listener) {
      const each = (signal: NodeJS.Signals) => listener(signal);
      for (const signal of proxied) process.on(signal, each);
      return () => {
        for (const signal of proxied) process.off(signal, each);
      };
    },
    setRaw(on) {
      if (process.stdin.isTTY) process.stdin.setRawMode(on);
    },
    directToken: undefined,
    gone: new AbortController().signal,
  };
}
