/**
 * `wherry …`: finds the command, parses its flags, runs it, and says what went wrong. The same function serves the stub inside the daemon and a plain
 * Node process.
 * @module
 */
import type { ApiClient } from "#api/client/mod.ts";
import type { Command } from "./command.ts";
import type { Entry } from "./command-tree.ts";
import { findCommand, tree } from "./commands.ts";
import { programFlags } from "./program-flags.ts";
import { ExitError, report } from "./errors.ts";
import { FlagError, HelpWanted, parseFlags } from "./flags.ts";
import { suggest } from "#core/suggest.ts";
import { commandHelp, groupHelp, rootHelp } from "./help.ts";
import type { CliIo } from "./io.ts";
import { BrokenPipe } from "./output.ts";
import { version } from "./version.ts";

/** Exit code of a wrong command line. */
const usageCode = 125;

/** Runs one command line. Never rejects; resolves with the exit code. */
export async function main(io: CliIo, client: () => ApiClient): Promise<number> {
  try {
    return await dispatch(io, client);
  } catch (error) {
    if (error instanceof BrokenPipe || io.gone.aborted) return 141;
    return report(io, error);
  }
}

async function dispatch(io: CliIo, client: () => ApiClient): Promise<number> {
  const global = parseGlobal(io);
  if (typeof global === "number") return global;
  return runWords(global.config === "" ? io : withEnv(io, { DOCKER_CONFIG: global.config }), client, global.words);
}

/** The same caller with further variables. */
function withEnv(io: CliIo, extra: Readonly<Record<string, string>>): CliIo {
  const { argv, cwd, env, umask, stdin, stdout, stderr, isTty, directToken, gone } = io;
  return {
    ...{ argv, cwd, umask, stdin, stdout, stderr, isTty, directToken, gone },
    env: { ...env, ...extra },
    size: () => io.size(),
    onResize: (listener) => io.onResize(listener),
    onSignal: (listener) => io.onSignal(listener),
    setRaw: (on) => io.setRaw(on),
  };
}

async function runWords(io: CliIo, client: () => ApiClient, global: readonly string[]): Promise<number> {
  const found = findCommand(global);
  if (found.kind === "unknown") return unknownCommand(io, found.path, found.word, found.siblings);
  if (found.kind === "group") {
    const helpWanted = found.rest.length === 0 || found.rest[0] === "--help" || found.rest[0] === "-h";
    if (!helpWanted) return flagProblem(io, unknownGroupFlag(found.rest[0]!), found.path, "COMMAND");
    // Asked for, it is an answer; else it says what is missing.
    (found.rest.length === 0 ? io.stderr : io.stdout).write(groupHelp(found.path, found.entry));
    return 0;
  }
  return runCommand(io, client, found.path, found.entry, found.rest);
}

/** Handles the flags before the command. A number is an exit code, a list the rest of the command line. */
function parseGlobal(io: CliIo): number | { readonly words: readonly string[]; readonly config: string } {
  try {
    const { values, args } = parseFlags(programFlags, io.argv, false);
    if (values.on("version")) {
      io.stdout.write(`wherry version ${version}\n`);
      return 0;
    }
    const level = values.text("log-level");
    if (!/^(panic|fatal|error|warn|warning|info|debug|trace)$/i.test(level)) throw new ExitError(1, `Unable to parse logging level: ${level}`);
    const config = values.text("config");
    if (args.length > 0 && args[0] !== "help") return { words: args, config };
    if (args.length > 1) return { words: [...args.slice(1), "--help"], config };
    (args.length === 0 ? io.stderr : io.stdout).write(rootHelp(tree));
    return 0;
  } catch (error) {
    if (error instanceof FlagError) return flagProblem(io, error.message, "wherry", "[OPTIONS] COMMAND [ARG...]");
    if (!(error instanceof HelpWanted)) throw error;
    io.stdout.write(rootHelp(tree));
    return 0;
  }
}

async function runCommand(io: CliIo, client: () => ApiClient, path: string, entry: Entry, rest: readonly string[]): Promise<number> {
  const command: Command = await entry.load!(); // findCommand answers "command" only for entries that load
  try {
    const { values, args } = parseFlags(command.flags, rest, command.interspersed);
    const refusal = arityProblem(path, command.arity(values), args.length);
    if (refusal !== undefined) {
      io.stderr.write(
        `wherry: '${path}' ${refusal.what}\n\nUsage:  ${`${path} ${command.usage}`.trimEnd()}\n\n${refusal.hint} '${path} --help' for more information\n`,
      );
      return 1;
    }
    // Whoever needs no daemon is not told that there is none.
    return await command.run({
      io,
      flags: values,
      args,
      path,
      get client() {
        return client();
      },
    });
  } catch (error) {
    if (error instanceof FlagError) return flagProblem(io, error.message, path, command.usage);
    if (!(error instanceof HelpWanted)) throw error;
    io.stdout.write(commandHelp(path, command, io.size()?.columns));
    return 0;
  }
}

function unknownGroupFlag(word: string): string {
  return word.startsWith("--") ? `unknown flag: ${word}` : `unknown shorthand flag: '${word.slice(1, 2)}' in ${word}`;
}

function flagProblem(io: CliIo, message: string, path: string, usage: string): number {
  io.stderr.write(`${message}\n\nUsage:  ${`${path} ${usage}`.trimEnd()}\n\nRun '${path} --help' for more information\n`);
  return usageCode;
}

function arityProblem(_path: string, [least, most]: readonly [number, number], given: number): { readonly what: string; readonly hint: string } | undefined {
  if (given >= least && given <= most) return undefined;
  const count = (n: number) => `${n} argument${n === 1 ? "" : "s"}`;
  if (most === 0) return { what: "accepts no arguments", hint: "Run" };
  if (least === most) return { what: `requires ${count(least)}`, hint: "Run" };
  if (most === Number.POSITIVE_INFINITY) return { what: `requires at least ${count(least)}`, hint: "See" };
  if (least === 0) return { what: `requires at most ${count(most)}`, hint: "Run" };
  return { what: `requires at least ${least} and at most ${count(most)}`, hint: "Run" };
}

/** docker's commands that this version lacks: a clear no is better than a guess at a typing mistake. */
const absent = ["buildx", "checkpoint", "compose", "plugin", "swarm", "node", "service", "stack", "secret", "config", "trust"];

function unknownCommand(io: CliIo, path: string, word: string, siblings: readonly string[]): number {
  if (absent.includes(word)) {
    io.stderr.write(`wherry: '${word}' is not supported by this version\n`);
    return 1;
  }
  const near = suggest(word, siblings);
  const meant = near.length === 0 ? "" : `\nDid you mean ${near.map((name) => `'${path} ${name}'`).join(" or ")}?\n`;
  const usage = path === "wherry" ? "" : `\nUsage:  ${path} COMMAND\n`;
  io.stderr.write(`wherry: unknown command: ${path} ${word}\n${meant}${usage}\nRun '${path} --help' for more information\n`);
  return 1;
}
