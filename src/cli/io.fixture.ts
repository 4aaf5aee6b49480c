/** A caller for tests: what was written is kept, input and signals are given. */
import { Readable, Writable } from "node:stream";
import type { CliIo } from "./io.ts";

export interface TestIo extends CliIo {
  /** What was written so far. */
  out(): string;
  err(): string;
  signal(name: string): void;
  resize(rows: number, columns: number): void;
  readonly rawModes: boolean[];
  /** Lets the caller go. */
  leave(): void;
}

export interface TestIoOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly stdin?: Readable | string;
  readonly tty?: boolean;
  readonly directToken?: string;
}

function collector(): { readonly stream: Writable; text(): string } {
  const chunks: Buffer[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(Buffer.from(chunk));
      done();
    },
  });
  return { stream, text: () => Buffer.concat(chunks).toString("utf8") };
}

export function testIo(argv: readonly string[], options: TestIoOptions = {}): TestIo {
  const stdout = collector();
  const stderr = collector();
  const signals = new Set<(signal: string) => void>();
  const resizes = new Set<() => void>();
  const gone = new AbortController();
  const rawModes: boolean[] = [];
  let size = { rows: 24, columns: 80 };
  const tty = options.tty ?? false;
  const { stdin = "" } = options;
  return {
    argv,
    cwd: options.cwd ?? "/",
    env: options.env ?? {},
    umask: 0o022,
    stdin: typeof stdin === "string" ? Readable.from(stdin === "" ? [] : [Buffer.from(stdin)], { objectMode: false }) : stdin,
    stdout: stdout.stream,
    stderr: stderr.stream,
    isTty: { stdin: tty, stdout: tty, stderr: tty },
    size: () => (tty ? size : undefined),
    onResize: (listener) => {
      resizes.add(listener);
      return () => resizes.delete(listener);
    },
    onSignal: (listener) => {
      signals.add(listener);
      return () => signals.delete(listener);
    },
    setRaw: (on) => rawModes.push(on),
    directToken: options.directToken,
    gone: gone.signal,
    out: stdout.text,
    err: stderr.text,
    signal: (name) => {
      for (const listener of signals) listener(name);
    },
    resize: (rows, columns) => {
      size = { rows, columns };
      for (const listener of resizes) listener();
    },
    rawModes,
    leave: () => gone.abort(),
  };
}
