/** The commands of the stock docker CLI, by walking its `--help` as a person would. @module */
import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** Swarm's, plugins of docker's client, and what they manage. */
const elsewhere = new Set(["swarm", "node", "service", "stack", "secret", "config", "trust", "plugin", "buildx", "compose"]);

/** Commands that wherry lacks. */
export const lacking: Readonly<Record<string, string>> = {
  checkpoint: "CRIU's checkpoints are experimental in docker",
  "volume update": "of swarm's cluster volumes only",
};

export interface Level {
  readonly commands: string[];
  readonly flags: string[];
}

/** The words of a help text: below a heading, two columns. */
function parseHelp(text: string): Level {
  const commands: string[] = [];
  const flags: string[] = [];
  let heading = "";
  for (const line of text.split("\n")) {
    heading = /^(\S.*):\s*$/.exec(line)?.[1] ?? heading;
    const command = /Commands$/.test(heading) ? /^ {2}(\S+?)\*? {2,}/.exec(line)?.[1] : undefined;
    const flag = /Options$/.test(heading) ? /^\s+(?:-\w, )?--([\w-]+)/.exec(line)?.[1] : undefined;
    if (command !== undefined) commands.push(command);
    if (flag !== undefined) flags.push(flag);
  }
  return { commands, flags };
}

async function helpOf(words: readonly string[]): Promise<Level> {
  const { stdout } = await promisify(execFile)("docker", [...words, "--help"], { env: { ...process.env, DOCKER_CLI_HINTS: "0" } });
  return parseHelp(stdout);
}

async function walk(words: readonly string[], found: Map<string, Level>): Promise<void> {
  const level = await helpOf(words);
  found.set(words.join(" "), level);
  for (const command of level.commands) if (words.length > 0 || !elsewhere.has(command)) await walk([...words, command], found);
}

/** Every command by its words, those with further ones below them too; `""` is docker itself. */
export async function dockerHelp(): Promise<Map<string, Level>> {
  const found = new Map<string, Level>();
  await walk([], found);
  return found;
}
