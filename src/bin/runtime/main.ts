/** The command line: global flags, the commands and theirs. The same function serves a process of its own and the daemon. @module */
import { resolve } from "node:path";
import { EngineError } from "#core/errors.ts";
import type { RuntimeContext } from "./context.ts";
import { logError, type LogOptions } from "./errors.ts";
import { type FlagTable, isSet, type Parsed, parseFlags, flagValue } from "./flags.ts";
import { absolute, NeedsOwnProcess, requireOwnProcess, type RuntimeIo } from "./io.ts";
import { OCI_VERSION, StateStore } from "./state.ts";

declare const WHERRY_VERSION: string | undefined;

const globalFlags: FlagTable = {
  root: "value",
  log: "value",
  "log-format": "value",
  "systemd-cgroup": "bool",
  rootless: "value",
  criu: "value",
  debug: "bool",
  "version,v": "bool",
  "help,h": "bool",
};

interface Command {
  readonly flags: FlagTable;
  /** The daemon does not do it for others: it is rare, or works with the caller's own streams and files. */
  readonly ownProcess?: true;
  /** Loaded when it is needed: a command's start counts. */
  load(): Promise<(context: RuntimeContext, flags: Parsed) => Promise<number>>;
}

const launchFlags: FlagTable = {
  "bundle,b": "value",
  "console-socket": "value",
  "pid-file": "value",
  "no-pivot": "bool",
  "no-new-keyring": "bool",
  "preserve-fds": "value",
};
const updateFlags = [
  "blkio-weight",
  "cpu-burst",
  "cpu-idle",
  "cpu-period",
  "cpu-quota",
  "cpu-share",
  "cpu-rt-period",
  "cpu-rt-runtime",
  "cpuset-cpus",
  "cpuset-mems",
  "memory",
  "memory-reservation",
  "memory-swap",
  "pids-limit",
  "l3-cache-schema",
  "mem-bw-schema",
];

const commands: Readonly<Record<string, Command>> = {
  create: { flags: launchFlags, load: async () => (await import("./create.ts")).create },
  run: {
    flags: { ...launchFlags, "detach,d": "bool", keep: "bool", "no-subreaper": "bool" },
    load: async () => (await import("./create.ts")).run,
  },
  start: { flags: {}, load: async () => (await import("./lifecycle.ts")).start },
  state: { flags: {}, load: async () => (await import("./lifecycle.ts")).state },
  kill: { flags: { "all,a": "bool" }, load: async () => (await import("./lifecycle.ts")).kill },
  delete: { flags: { "force,f": "bool" }, load: async () => (await import("./lifecycle.ts")).remove },
  pause: { flags: {}, load: async () => (await import("./lifecycle.ts")).pause },
  resume: { flags: {}, load: async () => (await import("./lifecycle.ts")).resume },
  list: { flags: { "format,f": "value", "quiet,q": "bool" }, load: async () => (await import("./lifecycle.ts")).list },
  exec: {
    flags: {
      "process,p": "value",
      "detach,d": "bool",
      "tty,t": "bool",
      "env,e": "value",
      "user,u": "value",
      "additional-gids,g": "value",
      "cap,c": "value",
      cwd: "value",
      "console-socket": "value",
      "pid-file": "value",
      "preserve-fds": "value",
      "no-new-privs": "bool",
      "ignore-paused": "bool",
      "process-label": "value",
      apparmor: "value",
      cgroup: "value",
      "no-subreaper": "bool",
    },
    load: async () => (await import("./exec.ts")).exec,
  },
  ps: { ownProcess: true, flags: { "format,f": "value" }, load: async () => (await import("./resources.ts")).ps },
  update: {
    ownProcess: true,
    flags: { "resources,r": "value", ...Object.fromEntries(updateFlags.map((name) => [name, "value" as const])) },
    load: async () => (await import("./resources.ts")).update,
  },
  events: { ownProcess: true, flags: { stats: "bool", interval: "value" }, load: async () => (await import("./resources.ts")).events },
  spec: { ownProcess: true, flags: { "bundle,b": "value", rootless: "bool" }, load: async () => (await import("./describe.ts")).spec },
  features: { ownProcess: true, flags: {}, load: async () => (await import("./describe.ts")).features },
};

const refused = new EngineError("unsupported", "checkpoint and restore are not supported: they need CRIU, which this runtime does not drive");

function version(): string {
  return `wherry-runtime version ${typeof WHERRY_VERSION === "string" ? WHERRY_VERSION : "0.0.0"}\nspec: ${OCI_VERSION}\n`;
}

function help(): string {
  return `Usage: wherry-runtime [global flags] COMMAND [flags] [ID] [arguments]\n\nCommands: ${Object.keys(commands).join(" ")}\nGlobal flags: ${Object.keys(
    globalFlags,
  )
    .map((names) => `--${names.split(",")[0]}`)
    .join(" ")}\n`;
}

/** Runs one command line; answers with its exit code. Rejects only with {@link NeedsOwnProcess}. */
export async function main(argv: readonly string[], io: RuntimeIo): Promise<number> {
  let log: LogOptions = { path: undefined, json: false };
  try {
    const global = parseFlags(globalFlags, argv);
    log = { path: absolute(io, flagValue(global, "log")), json: flagValue(global, "log-format") === "json" };
    const name = global.rest[0];
    if (isSet(global, "version")) io.out(version());
    else if (isSet(global, "help") || name === undefined || name === "help") io.out(help());
    else {
      if (!["auto", "false"].includes(flagValue(global, "rootless") ?? "auto"))
        throw new EngineError("unsupported", "--rootless is not supported: this runtime needs root");
      if (name === "checkpoint" || name === "restore") throw refused;
      const command = commands[name];
      if (command === undefined) throw new EngineError("invalid", `No help topic for '${name}'`);
      if (command.ownProcess) requireOwnProcess(io, name);
      const flags = parseFlags(command.flags, global.rest.slice(1));
      const store = new StateStore(resolve(io.cwd, flagValue(global, "root") ?? "/run/wherry-runtime"));
      return await (await command.load())({ io, store, systemdCgroup: isSet(global, "systemd-cgroup") }, flags);
    }
    return 0;
  } catch (error) {
    if (error instanceof NeedsOwnProcess) throw error;
    logError(error, log, io);
    return 1;
  }
}
