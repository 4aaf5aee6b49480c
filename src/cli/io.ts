/**
 * Everything that a command may touch of its caller: the same command runs in the warm daemon for a stub, and in a plain Node process.
 * Commands never use `process.*`; relative paths are resolved against {@link CliIo.cwd}.
 * @module
 */
import type { Readable, Writable } from "node:stream";

export interface CliIo {
  /** Without the program's name. */
  readonly argv: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The caller's file mode mask: files that a command makes get 0666 without these bits. */
  readonly umask: number;
  readonly stdin: Readable;
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly isTty: { readonly stdin: boolean; readonly stdout: boolean; readonly stderr: boolean };
  /** Window size now; undefined when no stream is a terminal. */
  size(): { readonly rows: number; readonly columns: number } | undefined;
  onResize(listener: () => void): () => void;
  /** Signals that the caller's process got: "SIGINT", "SIGTERM", …; while a listener is there, the default (exit 128+n) is off. */
  onSignal(listener: (signal: string) => void): () => void;
  /** Terminal raw mode. */
  setRaw(on: boolean): void;
  /** Token of the stub's descriptors at the helper, for `direct`. */
  readonly directToken: string | undefined;
  /** A program that runs in the caller's own process only; undefined in the daemon. */
  readonly serveCache?: (options: CacheOptions) => Promise<number>;
  /** Aborts when the caller has gone (a killed stub): whatever a command waits for is then given up. */
  readonly gone: AbortSignal;
}

/** What `wherry cache serve` was told. */
export interface CacheOptions {
  /** "" = every address. */
  readonly host: string;
  readonly port: number;
  readonly directory: string;
  readonly maxBytes: number;
  readonly upstreams: readonly string[];
  readonly insecure: readonly string[];
  readonly tagMs: number;
  readonly push: boolean;
  /** PEM files. */
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
  readonly credentials: (domain: string) => Promise<{ readonly username: string; readonly password: string } | { readonly identityToken: string } | undefined>;
  readonly onListening: (url: string, directory: string) => Promise<void>;
  readonly warn: (line: string) => void;
}
