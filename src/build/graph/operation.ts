/** What a step does to the root directory, with every value put in: data, ready to be hashed and performed. @module */
import type { Heredoc } from "../frontend/heredoc.ts";
import type { MountFlag } from "../frontend/instruction.ts";

export interface RunOperation {
  readonly kind: "run";
  readonly argv: readonly string[];
  /** ENV and the ARGs in scope; `NAME=value`. */
  readonly env: readonly string[];
  /** Names in `env` that are ARGs: their values are told to nobody. */
  readonly argNames: readonly string[];
  readonly user: string;
  readonly workdir: string;
  readonly network: "default" | "none" | "host";
  readonly mounts: readonly MountFlag[];
  /** A program that is there while the command runs (a heredoc that begins with `#!`). */
  readonly script?: { readonly path: string; readonly content: string };
}

export type CopySource =
  /** A path or pattern in a tree. */
  | { readonly kind: "path"; readonly pattern: string }
  /** A file of the Dockerfile itself. */
  | { readonly kind: "inline"; readonly name: string; readonly content: string }
  | { readonly kind: "url"; readonly url: string }
  | { readonly kind: "git"; readonly url: string };

export interface CopyOperation {
  readonly kind: "copy";
  readonly add: boolean;
  /** Stage, image or named context; undefined = the build's context. */
  readonly from: string | undefined;
  readonly sources: readonly CopySource[];
  /** Absolute. */
  readonly destination: string;
  /** The destination is a directory, however many files come. */
  readonly intoDirectory: boolean;
  readonly chown: string | undefined;
  readonly chmod: string | undefined;
  readonly link: boolean;
  readonly parents: boolean;
  readonly exclude: readonly string[];
  readonly unpack: boolean | undefined;
  readonly checksum: string | undefined;
  readonly keepGitDir: boolean;
}

export interface WorkdirOperation {
  readonly kind: "workdir";
  /** Absolute. */
  readonly path: string;
}

export type Operation = RunOperation | CopyOperation | WorkdirOperation;

export type { Heredoc };
