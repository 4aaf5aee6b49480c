/** `build --check`: a Dockerfile's lint, as docker prints it. Nothing is built, and no engine is asked. @module */
import { relative } from "node:path";
import { IgnoreRules } from "#build/frontend/ignore-file.ts";
import { type LintResult, type LintWarning, lint, ruleUrl } from "#build/frontend/lint.ts";
import { parseDockerfile } from "#build/frontend/stages.ts";
import { readDirectory } from "./build-context.ts";
import { EngineError } from "#core/errors.ts";
import { ExitError } from "./errors.ts";
import type { CliIo } from "./io.ts";
import { print } from "./output.ts";

/** Names whose values a build knows without being told. */
const predefined = Object.fromEntries(
  ["TARGET", "BUILD"].flatMap((side) => ["PLATFORM", "OS", "ARCH", "VARIANT"].map((part) => [`${side}${part}`, part === "VARIANT" ? "" : "x"])),
);

/** Lines before and behind those of a warning that are shown. */
const around = 2;

/** @returns the exit code: 1 when there is anything to say. @throws ExitError for a file that cannot be read or parsed */
export async function checkDockerfile(io: CliIo, path: string, file: string, check: string | undefined): Promise<number> {
  const { bytes, ignore, dockerfile } = await readDirectory(io, path, file);
  const text = bytes.toString("utf8");
  const name = dockerfile === undefined ? "Dockerfile" : relative(io.cwd, dockerfile) || dockerfile;
  const { warnings, error } = warningsOf(text, name, ignore, check);
  if (warnings.length === 0) {
    await print(io, "Check complete, no warnings found.");
    return 0;
  }
  await print(io, `Check complete, ${warnings.length} warning${warnings.length === 1 ? " has" : "s have"} been found!`);
  const lines = text.replace(/\n$/, "").split("\n");
  for (const warning of warnings) await print(io, `\n${shown(warning, name, lines)}`);
  if (error !== undefined) throw new ExitError(1, `ERROR: ${error}`);
  return 1;
}

function warningsOf(text: string, name: string, ignore: string, check: string | undefined): LintResult {
  try {
    return lint(parseDockerfile(text, name), { ignore: IgnoreRules.parse(ignore), predefined, check });
  } catch (error) {
    if (error instanceof EngineError) throw new ExitError(1, `ERROR: ${error.message}`);
    throw error;
  }
}

function shown({ rule, detail, line, endLine }: LintWarning, file: string, lines: readonly string[]): string {
  const [from, to] = [Math.max(1, line - around), Math.min(lines.length, endLine + around)];
  const excerpt = lines.slice(from - 1, to).map((text, i) => {
    const number = from + i;
    return `${String(number).padStart(4)} | ${number >= line && number <= endLine ? ">>>" : "   "} ${text.trimEnd()}`.trimEnd();
  });
  const rulerLine = "-".repeat(20);
  return [`WARNING: ${rule} - ${ruleUrl(rule)}`, detail, `${file}:${line}`, rulerLine, ...excerpt, rulerLine].join("\n");
}
