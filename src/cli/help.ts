/** `--help`. @module */
import type { Command } from "./command.ts";
import type { Entry } from "./command-tree.ts";
import { programFlags } from "./program-flags.ts";
import type { Flag } from "./flags.ts";

/** Breaks text at spaces so that no line is longer than `width`, where words allow. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines;
}

function defaultText(flag: Flag): string {
  const { initial } = flag;
  if (flag.many || initial === undefined || initial === "" || initial === 0 || initial === false) return "";
  return ` (default ${typeof initial === "string" ? JSON.stringify(initial) : String(initial)})`;
}

function flagLines(flags: readonly Flag[], columns: number): string {
  const shown = flags.filter((f) => !f.hidden).sort((a, b) => (a.name < b.name ? -1 : 1));
  const left = shown.map((f) => `  ${f.short === "" ? "    " : `-${f.short}, `}--${f.name}${f.metavar === "" ? "" : ` ${f.metavar}`}`);
  const indent = Math.max(...left.map((l) => l.length)) + 3;
  const width = Math.max(30, columns - indent);
  return shown
    .map((f, i) => {
      const [first = "", ...more] = wrap(f.help + defaultText(f), width);
      return [left[i]!.padEnd(indent) + first, ...more.map((l) => " ".repeat(indent) + l)].join("\n");
    })
    .join("\n");
}

/** Help of one command. */
export function commandHelp(path: string, command: Command, columns = 80): string {
  const parts = [`Usage:  ${path} ${command.usage}`.trimEnd(), command.about];
  if (command.examples.length > 0) {
    const width = Math.max(...command.examples.map(([line]) => line.length));
    parts.push(`Examples:\n${command.examples.map(([line, what]) => `  wherry ${line.padEnd(width)}   ${what}`).join("\n")}`);
  }
  if (command.flags.all.some((f) => !f.hidden)) parts.push(`Options:\n${flagLines(command.flags.all, columns)}`);
  return `${parts.join("\n\n")}\n`;
}

function entryLines(entries: readonly (readonly [string, Entry])[]): string {
  const width = Math.max(...entries.map(([name]) => name.length));
  return entries.map(([name, entry]) => `  ${name.padEnd(width)}   ${entry.about}`).join("\n");
}

/** Help of `wherry image` and its like. */
export function groupHelp(path: string, entry: Entry): string {
  const sub = Object.entries(entry.sub ?? {}).filter(([, e]) => !e.hidden);
  return `Usage:  ${path} COMMAND\n\n${entry.about}\n\nCommands:\n${entryLines(sub)}\n\nRun '${path} COMMAND --help' for more information on a command.\n`;
}

const common = ["run", "exec", "ps", "images", "logs", "version", "info"];

/** Help of the program. */
export function rootHelp(tree: Readonly<Record<string, Entry>>): string {
  const all = Object.entries(tree).filter(([, e]) => !e.hidden);
  const groups = all.filter(([, e]) => e.sub !== undefined);
  const rest = all.filter(([name, e]) => e.sub === undefined && !common.includes(name));
  return `Usage:  wherry [OPTIONS] COMMAND

A container engine: namespaces, cgroups, a union filesystem, images

Common Commands:
${entryLines(common.map((name) => [name, tree[name]!] as const))}

Management Commands:
${entryLines(groups)}

Commands:
${entryLines(rest)}

Global Options:
${flagLines(programFlags.all, 80)}

Run 'wherry COMMAND --help' for more information on a command.
`;
}
