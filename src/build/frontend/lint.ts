/**
 * What in a Dockerfile works and is unwise, by the rules and in the words of docker's build checks. Pure: of what needs the base image (undefined variables) nothing is said.
 * @module @see https://docs.docker.com/reference/build-checks/
 */
import { parseGoBool } from "#core/go-bool.ts";
import type { IgnoreRules } from "./ignore-file.ts";
import type { InstructionOf } from "./instruction.ts";
import type { ParseNode } from "./parse-tree.ts";
import type { Dockerfile, Stage } from "./stages.ts";
import { globalArgValues } from "./stages.ts";
import { expandWord, type Lookup } from "./words.ts";

export interface LintWarning {
  /** Docker's name of the rule: `JSONArgsRecommended`. */
  readonly rule: string;
  readonly description: string;
  readonly detail: string;
  /** Lines of the instruction, from 1. */
  readonly line: number;
  readonly endLine: number;
}

export interface LintResult {
  readonly warnings: readonly LintWarning[];
  /** Why nothing is built, in BuildKit's words: `# check=error=true` makes a warning an error. */
  readonly error: string | undefined;
}

export interface LintOptions {
  readonly ignore: IgnoreRules;
  /** `TARGETPLATFORM` and its kin. */
  readonly predefined: Readonly<Record<string, string>>;
  /** Instead of what the file's `# check=…` says: a build's argument {@link checkArg}. */
  readonly check?: string | undefined;
}

/** The build argument that beats the file's `# check=…`. */
export const checkArg = "BUILDKIT_DOCKERFILE_CHECK";

const descriptions = {
  StageNameCasing: "Stage names should be lowercase",
  FromAsCasing: "The 'as' keyword should match the case of the 'from' keyword",
  NoEmptyContinuation: "Empty continuation lines will become errors in a future release",
  ConsistentInstructionCasing: "All commands within the Dockerfile should use the same casing (either upper or lower)",
  DuplicateStageName: "Stage names should be unique",
  ReservedStageName: "Reserved words should not be used as stage names",
  JSONArgsRecommended: "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
  MaintainerDeprecated: "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
  UndefinedArgInFrom: "FROM command must use declared ARGs",
  WorkdirRelativePath: "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
  MultipleInstructionsDisallowed: "Multiple instructions of the same type should not be used in the same stage",
  LegacyKeyValueFormat: "Legacy key/value format with whitespace separator should not be used",
  RedundantTargetPlatform: "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
  SecretsUsedInArgOrEnv: "Sensitive data should not be used in the ARG or ENV commands",
  InvalidDefaultArgInFrom: "Default value for global ARG results in an empty or invalid base image name",
  FromPlatformFlagConstDisallowed: "FROM --platform flag should not use a constant value",
  CopyIgnoredFile: "Attempting to Copy file that is excluded by .dockerignore",
  ExposeProtoCasing: "Protocol in EXPOSE instruction should be lowercase",
  ExposeInvalidFormat: "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
} as const satisfies Record<string, string>;

type Rule = keyof typeof descriptions;

/** Where docker explains a rule. */
export function ruleUrl(rule: string): string {
  return `https://docs.docker.com/go/dockerfile/rule/${rule.replace(/([a-z])([A-Z])|([A-Z]+)([A-Z][a-z])/g, "$1$3-$2$4").toLowerCase()}/`;
}

/** In the order of the file, without the rules that `# check=skip=…` names. */
export function lint(dockerfile: Dockerfile, { ignore, predefined, check }: LintOptions): LintResult {
  const { skipped, isError } = parseCheck(check ?? dockerfile.tree.directives.check ?? "");
  const warnings: LintWarning[] = [];
  const warn: Warn = (rule, at, detail) => {
    if (!skipped(rule)) warnings.push({ rule, description: descriptions[rule], detail, line: at.position.line, endLine: at.endLine });
  };
  for (const { line, message } of dockerfile.tree.warnings)
    if (/continuation/i.test(message)) warn("NoEmptyContinuation", { position: { line }, endLine: line }, "Empty continuation line");
  checkCasing(dockerfile.tree.nodes, warn);
  checkStageNames(dockerfile.stages, warn);
  const args = globalArgValues(dockerfile, {}, predefined);
  const declared = new Set([...dockerfile.globalArgs.flatMap((arg) => arg.args.map(({ name }) => name)), ...Object.keys(predefined)]);
  for (const stage of dockerfile.stages) {
    checkFrom(stage.from, dockerfile, { args, declared }, warn);
    checkStage(stage, ignore, warn);
  }
  for (const arg of dockerfile.globalArgs) for (const { name } of arg.args) checkSecret("ARG", name, arg, warn);
  warnings.sort((a, b) => a.line - b.line);
  const rules = [...new Set(warnings.map(({ rule }) => rule))];
  return { warnings, error: isError && rules.length > 0 ? `lint violation found for rules: ${rules.join(", ")}` : undefined };
}

interface Place {
  readonly position: { readonly line: number };
  readonly endLine: number;
}

type Warn = (rule: Rule, at: Place, detail: string) => void;

/** `skip=Rule,Rule;error=true`. */
function parseCheck(text: string): { readonly skipped: (rule: string) => boolean; readonly isError: boolean } {
  const fields = new Map(text.split(";").map((field) => [field.split("=", 1)[0]!.trim(), field.slice(field.indexOf("=") + 1).trim()]));
  const names = (fields.get("skip") ?? "").split(",").map((name) => name.trim().toLowerCase());
  return { skipped: (rule) => names.includes("all") || names.includes(rule.toLowerCase()), isError: parseGoBool(fields.get("error") ?? "") === true };
}

function wordOf({ text }: ParseNode): string {
  return /^\s*(\S+)/.exec(text)?.[1] ?? "";
}

function checkCasing(nodes: readonly ParseNode[], warn: Warn): void {
  const upper = nodes.filter((node) => wordOf(node) === wordOf(node).toUpperCase()).length;
  const lower = nodes.filter((node) => wordOf(node) === wordOf(node).toLowerCase()).length;
  const isUpper = upper >= lower;
  for (const node of nodes) {
    const word = wordOf(node);
    if (word !== (isUpper ? word.toUpperCase() : word.toLowerCase()))
      warn("ConsistentInstructionCasing", node, `Command '${word}' should match the case of the command majority (${isUpper ? "uppercase" : "lowercase"})`);
    const as = node.command === "from" ? /\s(as)\s+\S+\s*$/i.exec(node.text)?.[1] : undefined;
    if (as !== undefined && (as === as.toUpperCase()) !== (word === word.toUpperCase()))
      warn("FromAsCasing", node, `'${as}' and '${word}' keywords' casing do not match`);
    const name = as === undefined ? undefined : /(\S+)\s*$/.exec(node.text)?.[1];
    if (name !== undefined && name !== name.toLowerCase()) warn("StageNameCasing", node, `Stage name '${name}' should be lowercase`);
  }
}

function checkStageNames(stages: readonly Stage[], warn: Warn): void {
  const seen = new Set<string>();
  for (const { name, from } of stages) {
    if (name === undefined) continue;
    if (seen.has(name)) warn("DuplicateStageName", from, `Duplicate stage name ${JSON.stringify(name)}, stage names should be unique`);
    if (name === "scratch" || name === "context")
      warn("ReservedStageName", from, `Stage name should not use the same name as reserved stage ${JSON.stringify(name)}`);
    seen.add(name);
  }
}

function checkFrom(
  from: InstructionOf<"from">,
  { tree, stages }: Dockerfile,
  { args, declared }: { readonly args: Lookup; readonly declared: ReadonlySet<string> },
  warn: Warn,
): void {
  const { image, platform = "", alias } = from;
  const missing = new Set<string>();
  const look: Lookup = (name) => {
    if (!declared.has(name)) missing.add(name);
    return args(name);
  };
  const expanded = expandWord(image, look, { escape: tree.directives.escape });
  expandWord(platform, look, { escape: tree.directives.escape });
  for (const name of missing) warn("UndefinedArgInFrom", from, `FROM argument '${name}' is not declared`);
  if (missing.size === 0 && (expanded === "" || /[:@/]$/.test(expanded)))
    warn("InvalidDefaultArgInFrom", from, `Default value for ARG ${image} results in empty or invalid base image name`);
  if (/^\$\{?TARGETPLATFORM\}?$/.test(platform))
    warn("RedundantTargetPlatform", from, `Setting platform to predefined ${platform} in FROM is redundant as this is the default behavior`);
  // A stage that says in its name which platform it is for is meant so.
  const meant = alias !== undefined && platform.split("/").some((part) => part !== "" && alias.includes(part));
  if (platform !== "" && !platform.includes("$") && !meant && !stages.some(({ name }) => name === image.toLowerCase()))
    warn("FromPlatformFlagConstDisallowed", from, `FROM --platform flag should not use constant value ${JSON.stringify(platform)}`);
}

function checkStage({ instructions }: Stage, ignore: IgnoreRules, warn: Warn): void {
  const last = new Map<string, number>();
  for (const [i, { kind }] of instructions.entries()) last.set(kind, i);
  let [hasShell, hasWorkdir] = [false, false];
  for (const [i, instruction] of instructions.entries()) {
    const { kind } = instruction;
    const name = kind.toUpperCase();
    switch (kind) {
      case "shell":
        hasShell = true;
        break;
      case "maintainer":
        warn("MaintainerDeprecated", instruction, "Maintainer instruction is deprecated in favor of using label");
        break;
      case "workdir":
        if (/^[/$]/.test(instruction.value)) hasWorkdir = true;
        else if (!hasWorkdir)
          warn(
            "WorkdirRelativePath",
            instruction,
            `Relative workdir ${JSON.stringify(instruction.value)} can have unexpected results if the base image changes`,
          );
        break;
      case "cmd":
      case "entrypoint":
      case "healthcheck":
        if (last.get(kind) !== i)
          warn(
            "MultipleInstructionsDisallowed",
            instruction,
            `Multiple ${name} instructions should not be used in the same stage because only the last one will be used`,
          );
        if (kind !== "healthcheck" && !instruction.command.json && !hasShell)
          warn("JSONArgsRecommended", instruction, `JSON arguments recommended for ${name} to prevent unintended behavior related to OS signals`);
        break;
      case "env":
      case "label":
        if (instruction.pairs.some(({ spaced }) => spaced))
          warn("LegacyKeyValueFormat", instruction, `"${name} key=value" should be used instead of legacy "${name} key value" format`);
        if (kind === "env") for (const pair of instruction.pairs) checkSecret("ENV", pair.name, instruction, warn);
        break;
      case "arg":
        for (const arg of instruction.args) checkSecret("ARG", arg.name, instruction, warn);
        break;
      case "expose":
        for (const word of instruction.words) checkPort(word, instruction, warn);
        break;
      case "copy":
      case "add":
        if (kind === "add" || instruction.from === undefined) checkSources(instruction, ignore, warn);
        break;
      default:
    }
  }
}

function checkPort(word: string, at: Place, warn: Warn): void {
  const protocol = word.split("/")[1];
  if (protocol !== undefined && protocol !== protocol.toLowerCase())
    warn("ExposeProtoCasing", at, `Defined protocol '${word}' in EXPOSE instruction should be lowercase`);
  if (word.includes(":")) warn("ExposeInvalidFormat", at, `EXPOSE instruction should not define an IP address or host-port mapping, found '${word}'`);
}

function checkSources(instruction: InstructionOf<"copy"> | InstructionOf<"add">, ignore: IgnoreRules, warn: Warn): void {
  for (const source of instruction.sources) {
    const path = source.replace(/^(\.?\/)+/, "").replace(/\/+$/, "");
    if (path === "" || path === "." || /[*?[$]|:\/\//.test(path)) continue;
    if (ignore.ignores(path)) warn("CopyIgnoredFile", instruction, `Attempting to Copy file ${JSON.stringify(source)} that is excluded by .dockerignore`);
  }
}

const secretWords = ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

function checkSecret(command: "ARG" | "ENV", name: string, at: Place, warn: Warn): void {
  const parts = name.toLowerCase().split("_");
  if (parts.includes("public") || !parts.some((part) => secretWords.includes(part))) return;
  warn("SecretsUsedInArgOrEnv", at, `Do not use ARG or ENV instructions for sensitive data (${command} ${JSON.stringify(name)})`);
}
