/** `# syntax=…`, `# escape=…`, `# check=…`: comments at the top of a Dockerfile that say how to read it. @module */
import { parseError } from "./parse-error.ts";

export interface Directives {
  /** What continues a line and takes a character's meaning away; "\\" unless said otherwise. */
  readonly escape: "\\" | "`";
  /** The frontend that was asked for; ours answers for every one. */
  readonly syntax: string | undefined;
  readonly check: string | undefined;
}

const known = ["syntax", "escape", "check"] as const;

/** They end at the first line that is none: an instruction, an empty line, another comment. @throws EngineError "invalid" for a second one of a name, or an escape that is no such character */
export function parseDirectives(lines: readonly string[], file: string): Directives {
  const found = new Map<string, string>();
  for (const [index, line] of lines.entries()) {
    const match = /^#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.*?)\s*$/.exec(line);
    // A program's first line may stand above.
    if (match === null && index === 0 && line.startsWith("#!")) continue;
    const name = match?.[1]?.toLowerCase();
    if (match === null || !known.some((k) => k === name)) break;
    const position = { file, line: index + 1, column: 1 };
    if (found.has(name!)) throw parseError(position, `only one ${name} parser directive can be used`);
    const value = match[2]!;
    if (name === "escape" && value !== "\\" && value !== "`") throw parseError(position, `invalid escape token '${value}' does not match \` or \\`);
    found.set(name!, value);
  }
  return { escape: (found.get("escape") as Directives["escape"] | undefined) ?? "\\", syntax: found.get("syntax"), check: found.get("check") };
}
