import type { HealthConfig } from "#core/container-config.ts";
import { Flags, type FlagTypes } from "./flags.ts";
import type { CopyFlags, Instruction, InstructionBodies, Pair } from "./instruction.ts";
import { parseDuration } from "#core/duration.ts";
import { parseError } from "./parse-error.ts";
import { suggest } from "#core/suggest.ts";
import { parseMount } from "./parse-mount.ts";
import { instructionNames, type ParseNode } from "./parse-tree.ts";

type Kind = Instruction["kind"];

const copyFlags: FlagTypes = { chown: "text", chmod: "text", link: "flag", parents: "flag", exclude: "list" };

/** The flags of each instruction that has some. */
const flagsOf: Readonly<Partial<Record<Kind, FlagTypes>>> = {
  from: { platform: "text" },
  run: { mount: "list", network: "text", security: "text", device: "list" },
  copy: { ...copyFlags, from: "text" },
  add: { ...copyFlags, checksum: "text", "keep-git-dir": "flag", unpack: "flag" },
  healthcheck: { interval: "text", timeout: "text", retries: "text", "start-period": "text", "start-interval": "text" },
};

/** @throws EngineError "invalid" in Docker's words, with position and suggestion; "unsupported" for what is refused */
export function parseInstruction(node: ParseNode): Instruction {
  const { command, position } = node;
  const name = command.toUpperCase();
  if (!instructionNames.includes(name)) throw parseError(position, `unknown instruction: ${name}`, suggest(name, instructionNames)[0]);
  const flags = new Flags(node.flags, flagsOf[command as Kind] ?? {}, position);
  // Every name in the list is a kind; the common fields go with each of the bodies.
  return { position, endLine: node.endLine, text: node.text, ...parsed(command as Kind, node, flags) } as Instruction;
}

type Body = InstructionBodies[Kind];

function parsed(kind: Kind, node: ParseNode, flags: Flags): Body {
  const { args, position } = node;
  const fail = (message: string) => parseError(position, message);
  const name = kind.toUpperCase();
  const atLeastOne = () => {
    if (args.length === 0) throw fail(`${name} requires at least one argument`);
  };
  const exactlyOne = () => {
    const [value] = args;
    if (value === undefined || args.length !== 1) throw fail(`${name} requires exactly one argument`);
    return value;
  };
  switch (kind) {
    case "from":
      return parseFrom(node, flags);
    case "run":
      return parseRun(node, flags);
    case "cmd":
    case "entrypoint":
      return { kind, command: { json: node.json, args } };
    case "shell":
      atLeastOne();
      if (!node.json) throw fail("SHELL requires the arguments to be in JSON form");
      return { kind, command: { json: true, args } };
    case "label":
    case "env":
      atLeastOne();
      return { kind, pairs: pairsOf(node) };
    case "arg":
      atLeastOne();
      return { kind, args: args.map((word) => parseArg(word, node)) };
    case "expose":
      atLeastOne();
      return { kind, words: [...args].sort() };
    case "volume":
      atLeastOne();
      if (args.some((path) => path.trim() === "")) throw fail("VOLUME specified can not be an empty string");
      return { kind, words: args };
    case "user":
    case "workdir":
    case "stopsignal":
    case "maintainer":
      return { kind, value: exactlyOne() };
    case "copy":
      return { kind, from: flags.text("from"), ...sourcesOf(node), ...copyFlagsOf(flags) };
    case "add":
      return {
        kind,
        checksum: flags.text("checksum"),
        keepGitDir: flags.flag("keep-git-dir") ?? false,
        unpack: flags.flag("unpack"),
        ...sourcesOf(node),
        ...copyFlagsOf(flags),
      };
    case "healthcheck":
      return { kind, health: parseHealth(node, flags) };
    case "onbuild":
      return parseOnbuild(node);
  }
}

function parseFrom({ args, position }: ParseNode, flags: Flags): InstructionBodies["from"] {
  const [image, as, alias] = args;
  if (image === undefined || (args.length !== 1 && args.length !== 3)) throw parseError(position, "FROM requires either one or three arguments");
  if (as !== undefined && as.toLowerCase() !== "as") throw parseError(position, "FROM requires either one or three arguments");
  if (alias !== undefined && !/^[a-z][a-z0-9_.-]*$/i.test(alias))
    throw parseError(position, `invalid name for build stage: ${JSON.stringify(alias)}, name can't start with a number or contain symbols`);
  return { kind: "from", image, alias: alias?.toLowerCase(), platform: flags.text("platform") };
}

function parseRun({ args, json, heredocs, position }: ParseNode, flags: Flags): InstructionBodies["run"] {
  if (args.length === 0) throw parseError(position, "RUN requires at least one argument");
  const security = flags.text("security") ?? "sandbox";
  if (security !== "sandbox") throw parseError(position, `security ${security} is not allowed: RUN steps run sandboxed`);
  if (flags.list("device").length > 0) throw parseError(position, "devices for RUN are not supported");
  const network = flags.text("network") ?? "default";
  if (network !== "default" && network !== "none" && network !== "host")
    throw parseError(position, `unsupported network mode: ${network}`, suggest(network, ["default", "none", "host"])[0]);
  return { kind: "run", command: { json, args }, network, mounts: flags.list("mount").map((text) => parseMount(text, position)), heredocs };
}

function pairsOf({ args, command, position }: ParseNode): Pair[] {
  const pairs: Pair[] = [];
  for (let i = 0; i < args.length; i += 3) {
    const name = args[i]!;
    if (name === "") throw parseError(position, `${command.toUpperCase()} names can not be blank`);
    pairs.push({ name, value: args[i + 1] ?? "", spaced: args[i + 2] === "" });
  }
  return pairs;
}

function parseArg(word: string, { position }: ParseNode): { name: string; value: string | undefined } {
  const [, name = "", value] = /^([^=]*)(?:=(.*))?$/s.exec(word) ?? [];
  if (name === "") throw parseError(position, "ARG names can not be blank");
  return { name, value };
}

function sourcesOf({ args, heredocs, command, position }: ParseNode): Pick<InstructionBodies["copy"], "sources" | "heredocs" | "destination"> {
  const name = command.toUpperCase();
  if (args.length < 2) throw parseError(position, `${name} requires at least two arguments, but only one was provided. Destination could not be determined`);
  const destination = args.at(-1)!;
  if (heredocs.length > 0 && /^\d*<<-?[^<]/.test(destination)) throw parseError(position, `${name} cannot accept a heredoc as a destination`);
  const sources = args.slice(0, -1);
  const files = heredocs.length === 0 ? sources : sources.filter((word) => !/^\d*<<-?[^<]/.test(word));
  return { sources: files, heredocs, destination };
}

function copyFlagsOf(flags: Flags): CopyFlags {
  return {
    chown: flags.text("chown"),
    chmod: flags.text("chmod"),
    link: flags.flag("link") ?? false,
    parents: flags.flag("parents") ?? false,
    exclude: flags.list("exclude"),
  };
}

function parseHealth({ args, json, position }: ParseNode, flags: Flags): HealthConfig {
  const [type, ...test] = args;
  if (type === undefined) throw parseError(position, "HEALTHCHECK requires at least one argument");
  if (type.toUpperCase() === "NONE") {
    if (test.length > 0) throw parseError(position, "HEALTHCHECK NONE takes no arguments");
    return { Test: ["NONE"] };
  }
  if (type.toUpperCase() !== "CMD") throw parseError(position, `Unknown type ${JSON.stringify(type)} in HEALTHCHECK (try CMD)`);
  if (test.length === 0) throw parseError(position, "Missing command after HEALTHCHECK CMD");
  const duration = (name: string, key: keyof HealthConfig, allowZero: boolean) => {
    const text = flags.text(name);
    if (text === undefined) return {};
    const ns = parseDuration(text);
    if (ns === undefined) throw parseError(position, `time: invalid duration ${JSON.stringify(text)}`);
    if (ns < 0 || (ns > 0 && ns < 1_000_000) || (ns === 0 && !allowZero))
      throw parseError(position, `Interval ${JSON.stringify(name)} cannot be less than 1ms`);
    return { [key]: ns };
  };
  const retries = flags.text("retries");
  if (retries !== undefined && !/^[0-9]{1,9}$/.test(retries)) throw parseError(position, `--retries must be a number of at least 0, not ${retries}`);
  return {
    Test: json ? ["CMD", ...test] : ["CMD-SHELL", ...test],
    ...duration("interval", "Interval", true),
    ...duration("timeout", "Timeout", true),
    ...duration("start-period", "StartPeriod", true),
    ...duration("start-interval", "StartInterval", true),
    ...(retries === undefined ? {} : { Retries: Number(retries) }),
  };
}

function parseOnbuild({ child, position, heredocs, text }: ParseNode): InstructionBodies["onbuild"] {
  if (child === undefined) throw parseError(position, "ONBUILD requires at least one argument");
  if (child.command === "onbuild") throw parseError(position, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
  if (child.command === "from" || child.command === "maintainer")
    throw parseError(position, `${child.command.toUpperCase()} isn't allowed as an ONBUILD trigger`);
  // What is wrong with it is said now, and not to whoever builds on the image.
  parseInstruction(child);
  const line = text.replace(/^\s*\S+\s+/, "");
  return { kind: "onbuild", trigger: [line, ...heredocs.map(({ content, name }) => `${content}${name}`)].join("\n") };
}
