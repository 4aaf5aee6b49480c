/**
 * `wherry-runtime`: the OCI runtime command line, for containerd, dockerd and podman in place of runc. Each command is a process of its own that
 * plans, has the plan performed, and ends; what lasts is in `--root`.
 * @module
 * @see https://github.com/opencontainers/runtime-spec/blob/main/runtime.md
 */
import { EngineError } from "#core/errors.ts";
import type { RuntimeContext } from "./runtime/context.ts";
import { logError, type LogOptions } from "./runtime/errors.ts";
import { type FlagTable, isSet, type Parsed, parseFlags, flagValue } from "./runtime/flags.ts";
import { OCI_VERSION, StateStore } from "./runtime/state.ts";

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
];

const commands: Readonly<Record<string, Command>> = {
  create: { flags: launchFlags, load: async () => (await import("./runtime/create.ts")).create },
  run: {
    flags: { ...launchFlags, "detach,d": "bool", keep: "bool", "no-subreaper": "bool" },
    load: async () => (await import("./runtime/create.ts")).run,
  },
  start: { flags: {}, load: async () => (await import("./runtime/lifecycle.ts")).start },
  state: { flags: {}, load: async () => (await import("./runtime/lifecycle.ts")).state },
  kill: { flags: { "all,a": "bool" }, load: async () => (await import("./runtime/lifecycle.ts")).kill },
  delete: { flags: { "force,f": "bool" }, load: async () => (await import("./runtime/lifecycle.ts")).remove },
  pause: { flags: {}, load: async () => (await import("./runtime/lifecycle.ts")).pause },
  resume: { flags: {}, load: async () => (await import("./runtime/lifecycle.ts")).resume },
  list: { flags: { "format,f": "value", "quiet,q": "bool" }, load: async () => (await import("./runtime/lifecycle.ts")).list },
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
      "no-subreaper": "bool",
    },
    load: async () => (await import("./runtime/exec.ts")).exec,
  },
  ps: { flags: { "format,f": "value" }, load: async () => (await import("./runtime/resources.ts")).ps },
  update: {
    flags: { "resources,r": "value", ...Object.fromEntries(updateFlags.map((name) => [name, "value" as const])) },
    load: async () => (await import("./runtime/resources.ts")).update,
  },
  events: { flags: { stats: "bool", interval: "value" }, load: async () => (await import("./runtime/resources.ts")).events },
  spec: { flags: { "bundle,b": "value", rootless: "bool" }, load: async () => (await import("./runtime/describe.ts")).spec },
  features: { flags: {}, load: async () => (await import("./runtime/describe.ts")).features },
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

async function main(argv: readonly string[]): Promise<number> {
  let log: LogOptions = { path: undefined, json: false };
  try {
    const global = parseFlags(globalFlags, argv);
    log = { path: flagValue(global, "log"), json: flagValue(global, "log-format") === "json" };
    const name = global.rest[0];
    if (isSet(global, "version")) process.stdout.write(version());
    else if (isSet(global, "help") || name === undefined || name === "help") process.stdout.write(help());
    else {
      if (isSet(global, "rootless") && flagValue(global, "rootless") !== "auto")
        throw new EngineError("unsupported", "--rootless is not supported: this runtime needs root");
      if (name === "checkpoint" || name === "restore") throw refused;
      const command = commands[name];
      if (command === undefined) throw new EngineError("invalid", `No help topic for '${name}'`);
      const flags = parseFlags(command.flags, global.rest.slice(1));
      const store = new StateStore(flagValue(global, "root") ?? "/run/wherry-runtime");
      return await (await command.load())({ store, systemdCgroup: isSet(global, "systemd-cgroup") }, flags);
    }
    return 0;
  } catch (error) {
    logError(error, log);
    return 1;
  }
}

process.exit(await main(process.argv.slice(2)));
