/** The instructions of a Dockerfile as types. Variables in their texts are not replaced yet. @module @see https://docs.docker.com/reference/dockerfile/ */
import type { HealthConfig } from "#core/container-config.ts";
import type { Heredoc } from "./heredoc.ts";
import type { Position } from "./parse-error.ts";

/** A command as list (`["a","b"]`) or as one text for the shell. */
export interface Command {
  readonly json: boolean;
  readonly args: readonly string[];
}

export interface Pair {
  readonly name: string;
  readonly value: string;
  /** `ENV name value`: the rest of the line. */
  readonly spaced: boolean;
}

/** RUN --mount. Which fields can occur depends on the type; {@link parseMount} checks that. */
export interface MountFlag {
  readonly type: "bind" | "cache" | "tmpfs" | "secret" | "ssh";
  /** Of secret and ssh it may be absent: then it lies where Docker puts it. */
  readonly target: string | undefined;
  /** Path in `from`. */
  readonly source: string;
  /** Stage, image or named context; undefined = the build's context (bind), an empty directory (cache). */
  readonly from: string | undefined;
  readonly readonly: boolean;
  /** Of a cache, secret or agent. */
  readonly id: string | undefined;
  readonly sharing: "shared" | "private" | "locked";
  readonly required: boolean;
  readonly mode: number | undefined;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
  /** tmpfs, bytes. */
  readonly sizeBytes: number | undefined;
  /** secret: the variable that holds it. */
  readonly env: string | undefined;
}

interface Common {
  readonly position: Position;
  readonly endLine: number;
  /** On one line, as written. */
  readonly text: string;
}

/** COPY and ADD. */
export interface CopyFlags {
  readonly chown: string | undefined;
  readonly chmod: string | undefined;
  readonly link: boolean;
  readonly parents: boolean;
  readonly exclude: readonly string[];
}

/** What each instruction says. */
interface Bodies {
  from: { readonly image: string; readonly alias: string | undefined; readonly platform: string | undefined };
  run: {
    readonly command: Command;
    readonly mounts: readonly MountFlag[];
    readonly network: "default" | "none" | "host";
    readonly heredocs: readonly Heredoc[];
  };
  cmd: { readonly command: Command };
  entrypoint: { readonly command: Command };
  shell: { readonly command: Command };
  label: { readonly pairs: readonly Pair[] };
  env: { readonly pairs: readonly Pair[] };
  arg: { readonly args: readonly { readonly name: string; readonly value: string | undefined }[] };
  expose: { readonly words: readonly string[] };
  volume: { readonly words: readonly string[] };
  user: { readonly value: string };
  workdir: { readonly value: string };
  stopsignal: { readonly value: string };
  maintainer: { readonly value: string };
  copy: { readonly from: string | undefined } & Sources & CopyFlags;
  add: {
    readonly checksum: string | undefined;
    readonly keepGitDir: boolean;
    /** undefined: archives of the context are unpacked, those from an URL are not. */
    readonly unpack: boolean | undefined;
  } & Sources &
    CopyFlags;
  healthcheck: { readonly health: HealthConfig };
  /** `trigger`: the instruction on one line, with its heredocs below. */
  onbuild: { readonly trigger: string };
}

export type InstructionBodies = { [K in keyof Bodies]: { readonly kind: K } & Bodies[K] };

export type InstructionOf<K extends keyof Bodies> = Common & InstructionBodies[K];

export type Instruction = { [K in keyof Bodies]: InstructionOf<K> }[keyof Bodies];

interface Sources {
  readonly sources: readonly string[];
  readonly heredocs: readonly Heredoc[];
  readonly destination: string;
}
