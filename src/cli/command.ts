/** What a command is: data about its command line, and the work. @module */
import type { ApiClient } from "#api/client/mod.ts";
import type { Flag, FlagValues } from "./flags.ts";
import { FlagSet } from "./flags.ts";
import type { CliIo } from "./io.ts";

/** One call of a command. */
export interface Call {
  readonly io: CliIo;
  readonly client: ApiClient;
  readonly flags: FlagValues;
  readonly args: readonly string[];
  /** As it was called: "wherry container ls". */
  readonly path: string;
}

/** Fewest and most arguments. */
export type Arity = readonly [least: number, most: number];

export interface Command {
  /** What follows the command's name: "[OPTIONS] IMAGE [COMMAND] [ARG...]". */
  readonly usage: string;
  readonly about: string;
  /** Command lines without the program's name, each with what it does. */
  readonly examples: readonly (readonly [line: string, what: string])[];
  readonly flags: FlagSet;
  /** False: the first argument ends the flags. */
  readonly interspersed: boolean;
  readonly arity: (flags: FlagValues) => Arity;
  /** Resolves with the exit code. */
  run(call: Call): Promise<number>;
}

/** Makes a command; what is left out has its usual value. */
export function command(options: {
  readonly usage: string;
  readonly about: string;
  readonly examples?: Command["examples"];
  readonly flags?: readonly Flag[];
  readonly interspersed?: boolean;
  readonly arity: Arity | ((flags: FlagValues) => Arity);
  readonly run: (call: Call) => Promise<number>;
}): Command {
  const { arity } = options;
  return {
    usage: options.usage,
    about: options.about,
    examples: options.examples ?? [],
    flags: new FlagSet(options.flags ?? []),
    interspersed: options.interspersed ?? true,
    arity: typeof arity === "function" ? arity : () => arity,
    run: options.run,
  };
}

/** No upper bound. */
export const any: number = Number.POSITIVE_INFINITY;
