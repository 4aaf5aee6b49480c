/**
 * A stage and what it is built on → its steps, with variables replaced and defaults filled in. Pure.
 * @module
 */
import { posix } from "node:path";
import { EngineError, isEngineError } from "#core/errors.ts";
import { heredocText } from "../frontend/heredoc.ts";
import type { Command, Instruction, InstructionOf } from "../frontend/instruction.ts";
import { parseError, type Position } from "../frontend/parse-error.ts";
import { parseInstruction } from "../frontend/parse-instruction.ts";
import { parseTree } from "../frontend/parse-tree.ts";
import { copyOperation } from "./copy-operation.ts";
import type { Operation } from "./operation.ts";
import { exposedPorts } from "./ports.ts";
import { mergeEnv, Scope, type Values } from "./scope.ts";
import type { ImageSettings, Step } from "./step.ts";

/** Docker's PATH for an image that says none. */
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const defaultShell = ["/bin/sh", "-c"];

/** Where a stage begins: the image it is built on, or another stage's end. */
export interface Base {
  readonly settings: ImageSettings;
  readonly author: string | undefined;
  /** Of a stage that this one continues. */
  readonly args?: ReadonlyMap<string, string>;
}

/** How a stage ended, for those that continue it. */
export interface Evaluated {
  readonly steps: readonly Step[];
  readonly end: Base;
  /** Names of the ARGs that it has asked for. */
  readonly argsAsked: ReadonlySet<string>;
}

interface State {
  readonly settings: ImageSettings;
  readonly scope: Scope;
  readonly author: string | undefined;
  /** CMD was said since the base. */
  readonly cmdSet: boolean;
}

interface Effect {
  readonly settings?: ImageSettings;
  readonly scope?: Scope;
  readonly author?: string;
  readonly operation?: Operation;
  readonly createdBy?: string;
  readonly warnings?: readonly string[];
}

/** @throws EngineError "invalid" with the place of the instruction */
export function evaluateStage(instructions: readonly Instruction[], base: Base, values: Values): Evaluated {
  const { OnBuild: triggers, ...inherited } = base.settings;
  const env = inherited.Env ?? [];
  const withPath = env.some((pair) => pair.startsWith("PATH=")) ? env : mergeEnv(env, [["PATH", defaultPath]]);
  let state: State = {
    settings: { ...inherited, Env: [...withPath] },
    scope: new Scope(values, withPath, base.args),
    author: base.author,
    cmdSet: false,
  };
  const steps: Step[] = [];
  const argsAsked = new Set<string>();
  for (const instruction of [...(triggers ?? []).flatMap(triggered), ...instructions]) {
    if (instruction.kind === "arg") for (const { name } of instruction.args) argsAsked.add(name);
    const effect = applied(instruction, state);
    state = {
      settings: effect.settings ?? state.settings,
      scope: effect.scope ?? state.scope,
      author: effect.author ?? state.author,
      cmdSet: state.cmdSet || instruction.kind === "cmd",
    };
    steps.push({
      text: instruction.text,
      position: instruction.position,
      operation: effect.operation,
      settings: state.settings,
      author: state.author,
      createdBy: effect.createdBy,
      warnings: effect.warnings ?? [],
    });
  }
  return { steps, end: { settings: state.settings, author: state.author, args: state.scope.args }, argsAsked };
}

/** An image's ONBUILD, as an instruction of the stage that is built on it. */
function triggered(trigger: string): Instruction[] {
  try {
    const { nodes } = parseTree(trigger, "ONBUILD");
    return nodes.map(parseInstruction);
  } catch (error) {
    throw new EngineError("invalid", `the image's ONBUILD trigger ${JSON.stringify(trigger.slice(0, 200))} cannot be used: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** The effect of one instruction; an error in its words gets its place. */
function applied(instruction: Instruction, state: State): Effect {
  try {
    return effectOf(instruction, state);
  } catch (error) {
    if (!isEngineError(error, "invalid") || error.details["line"] !== undefined) throw error;
    throw located(error, instruction.position);
  }
}

function located(error: EngineError, position: Position): EngineError {
  return parseError(position, error.message);
}

function effectOf(instruction: Instruction, state: State): Effect {
  const { settings, scope } = state;
  const shell = settings.Shell ?? defaultShell;
  const set = (change: ImageSettings, createdBy: string): Effect => ({ settings: { ...settings, ...change }, createdBy });
  switch (instruction.kind) {
    case "run":
      return runEffect(instruction, state, shell);
    case "copy":
    case "add": {
      const operation = copyOperation(instruction, scope, settings.WorkingDir ?? "");
      const names = operation.sources.map((source) => (source.kind === "path" ? source.pattern : source.kind === "inline" ? `<<${source.name}` : source.url));
      return { operation, createdBy: [instruction.kind.toUpperCase(), ...flagsOf(instruction), ...names, operation.destination].join(" ") };
    }
    case "workdir": {
      const path = absolute(scope.expand(instruction.value), settings.WorkingDir ?? "");
      return { ...set({ WorkingDir: path }, `WORKDIR ${path}`), operation: { kind: "workdir", path } };
    }
    case "cmd": {
      const argv = argvOf(instruction.command, shell);
      return set({ Cmd: argv }, `CMD ${JSON.stringify(argv)}`);
    }
    case "entrypoint": {
      const argv = argvOf(instruction.command, shell);
      // The base's command was for the base's entrypoint.
      return set({ Entrypoint: argv.length === 0 ? null : argv, ...(state.cmdSet ? {} : { Cmd: null }) }, `ENTRYPOINT ${JSON.stringify(argv)}`);
    }
    case "shell":
      return set({ Shell: [...instruction.command.args] }, `SHELL ${JSON.stringify(instruction.command.args)}`);
    case "env": {
      const pairs = instruction.pairs.map(({ name, value }) => [scope.expand(name), scope.expand(value)] as const);
      const next = scope.withEnv(pairs);
      return { ...set({ Env: [...next.env] }, `ENV ${pairs.map(([name, value]) => `${name}=${value}`).join(" ")}`), scope: next };
    }
    case "label": {
      const pairs = instruction.pairs.map(({ name, value }) => [scope.expand(name), scope.expand(value)] as const);
      return set({ Labels: { ...settings.Labels, ...Object.fromEntries(pairs) } }, `LABEL ${pairs.map(([name, value]) => `${name}=${value}`).join(" ")}`);
    }
    case "arg":
      return { scope: scope.withArgs(instruction.args), createdBy: `ARG ${instruction.args.map(({ name }) => name).join(" ")}` };
    case "expose": {
      const { ports, warnings } = exposedPorts(scope.expandAll(instruction.words));
      return { ...set({ ExposedPorts: { ...settings.ExposedPorts, ...ports } }, `EXPOSE ${Object.keys(ports).join(" ")}`), warnings };
    }
    case "volume": {
      const paths = instruction.words.map((word) => scope.expand(word));
      if (paths.includes("")) throw new EngineError("invalid", "VOLUME specified can not be an empty string");
      return set({ Volumes: { ...settings.Volumes, ...Object.fromEntries(paths.map((path) => [path, {}])) } }, `VOLUME ${JSON.stringify(paths)}`);
    }
    case "user": {
      const user = scope.expand(instruction.value);
      return set({ User: user }, `USER ${user}`);
    }
    case "stopsignal": {
      const signal = scope.expand(instruction.value);
      if (!/^(SIG)?[A-Z][A-Z0-9+-]*$|^[0-9]{1,3}$/i.test(signal)) throw new EngineError("invalid", `Invalid signal: ${signal}`);
      return set({ StopSignal: signal }, `STOPSIGNAL ${signal}`);
    }
    case "healthcheck":
      return set({ Healthcheck: instruction.health }, `HEALTHCHECK ${JSON.stringify(instruction.health)}`);
    case "maintainer":
      return { author: instruction.value, createdBy: `MAINTAINER ${instruction.value}` };
    case "onbuild":
      return set({ OnBuild: [...(settings.OnBuild ?? []), instruction.trigger] }, `ONBUILD ${instruction.trigger}`);
    case "from":
      throw new EngineError("internal", "FROM within a stage");
  }
}

function argvOf({ json, args }: Command, shell: readonly string[]): string[] {
  return json ? [...args] : args.length === 0 ? [] : [...shell, ...args];
}

/** Within the root, wherever `..` leads. */
function absolute(path: string, workdir: string): string {
  return posix.resolve(workdir === "" ? "/" : workdir, path === "" ? "." : path);
}

function flagsOf(instruction: InstructionOf<"copy"> | InstructionOf<"add">): string[] {
  const { chown, chmod, link, parents } = instruction;
  return [
    ...(instruction.kind === "copy" && instruction.from !== undefined ? [`--from=${instruction.from}`] : []),
    ...(chown === undefined ? [] : [`--chown=${chown}`]),
    ...(chmod === undefined ? [] : [`--chmod=${chmod}`]),
    ...(link ? ["--link"] : []),
    ...(parents ? ["--parents"] : []),
  ];
}

/** Where a heredoc that is a program of its own lies while it runs. */
const scriptFolder = "/dev/pipes";

function runEffect({ command, heredocs, mounts, network }: InstructionOf<"run">, { settings, scope }: State, shell: readonly string[]): Effect {
  const { env, argNames } = scope.runEnv();
  const expanded = mounts.map((mount) => ({
    ...mount,
    target: mount.target === undefined ? undefined : absolute(scope.expand(mount.target), settings.WorkingDir ?? ""),
    source: scope.expand(mount.source),
    ...(mount.id === undefined ? {} : { id: scope.expand(mount.id) }),
    ...(mount.from === undefined ? {} : { from: scope.expand(mount.from) }),
  }));
  const what = runCommand(command, heredocs, shell);
  return {
    operation: {
      kind: "run",
      ...what,
      env,
      argNames,
      user: settings.User ?? "",
      workdir: settings.WorkingDir ?? "",
      network,
      mounts: expanded,
    },
    createdBy: `RUN ${command.json ? JSON.stringify(command.args) : [...shell, ...command.args].join(" ")}`,
  };
}

function runCommand(
  { json, args }: Command,
  heredocs: InstructionOf<"run">["heredocs"],
  shell: readonly string[],
): { readonly argv: string[]; readonly script?: { readonly path: string; readonly content: string } } {
  if (json) return { argv: [...args] };
  const [line = ""] = args;
  const [only] = heredocs;
  if (only === undefined) return { argv: [...shell, line] };
  // The heredoc is all there is: it is the script itself.
  if (heredocs.length === 1 && /^\d*<<-?\s*\S+$/.test(line.trim())) {
    const content = heredocText(only);
    if (!content.startsWith("#!")) return { argv: [...shell, content] };
    const path = `${scriptFolder}/${only.name.replace(/[^a-zA-Z0-9_.-]/g, "_")}`;
    return { argv: [path], script: { path, content } };
  }
  return { argv: [...shell, [line, ...heredocs.map(({ content, name }) => `${content}${name}`)].join("\n")] };
}
