/** `wherry completion bash|zsh|fish`: a small script that asks `wherry __complete` at each tab, so that it knows what this version knows, and the names that there are. @module */
import type { ApiClient } from "#api/client/mod.ts";
import type { ContainerSummary, ImageSummary, NetworkJson, VolumeListJson } from "#api/types/mod.ts";
import { any, type Call, type Command, command } from "./command.ts";
import type { Entry, Found } from "./command-tree.ts";
import { programFlags } from "./program-flags.ts";
import { listContexts } from "./contexts/store.ts";
import { ExitError } from "./errors.ts";
import type { Flag, FlagSet } from "./flags.ts";
import { print, write } from "./output.ts";

const scripts: Readonly<Record<string, string>> = {
  bash: `# wherry completion for bash: source <(wherry completion bash)
_wherry() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do COMPREPLY+=("\${line%%$'\\t'*}"); done < <(wherry __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  if [[ \${#COMPREPLY[@]} -eq 0 ]]; then compopt -o default 2>/dev/null; fi
}
complete -F _wherry wherry
`,
  zsh: `#compdef wherry
# wherry completion for zsh: source <(wherry completion zsh)
_wherry() {
  local -a found
  local line
  while IFS= read -r line; do found+=("\${\${line//:/\\\\:}/$'\\t'/:}"); done < <(wherry __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  if (( \${#found} )); then _describe wherry found; else _files; fi
}
compdef _wherry wherry
`,
  fish: `# wherry completion for fish: wherry completion fish | source
function __wherry_complete
  set -l words (commandline -opc) (commandline -ct)
  set -l found (wherry __complete -- $words[2..-1] 2>/dev/null)
  if test (count $found) -gt 0
    printf '%s\\n' $found
  else
    __fish_complete_path (commandline -ct)
  end
end
complete -c wherry -f -a '(__wherry_complete)'
`,
};

export const completionCommand: Command = command({
  usage: "SHELL",
  about: "Print the completion script for a shell: bash, zsh or fish",
  examples: [["completion bash > /etc/bash_completion.d/wherry", "for every bash"]],
  arity: [1, 1],
  run: async ({ args, io }) => {
    const script = Object.hasOwn(scripts, args[0] ?? "") ? scripts[args[0] ?? ""] : undefined;
    if (script === undefined) throw new ExitError(1, `wherry completion: no script for ${JSON.stringify(args[0])}: use bash, zsh or fish`);
    await write(io.stdout, script);
    return 0;
  },
});

interface Candidate {
  readonly word: string;
  readonly about: string;
}

type Tree = Readonly<Record<string, Entry>>;
type Find = (words: readonly string[]) => Found;

/** One candidate a line, a tab and what it is behind it. The last argument is the word that is being typed. */
export const completeCommand = (tree: Tree, find: Find): Command =>
  command({
    usage: "-- WORD...",
    about: "Answer a completion script",
    interspersed: false,
    arity: [0, any],
    run: async (call) => {
      const words = call.args.slice(0, -1);
      const typed = call.args.at(-1) ?? "";
      const found = await candidates(call, { tree, find }, words, typed);
      for (const { word, about } of found.filter(({ word: w }) => w.startsWith(typed))) await print(call.io, about === "" ? word : `${word}\t${about}`);
      return 0;
    },
  });

async function candidates(
  call: Call,
  { tree, find }: { readonly tree: Tree; readonly find: Find },
  words: readonly string[],
  typed: string,
): Promise<Candidate[]> {
  const rest = words.slice(globalFlagWords(words));
  if (rest.length === 0) return typed.startsWith("-") ? flagsOf(programFlags) : entries(tree);
  const found = find(rest);
  if (found.kind === "unknown") return [];
  if (found.kind === "group") return found.rest.length === 0 ? entries(found.entry.sub ?? {}) : [];
  const { flags, usage } = await found.entry.load!(); // findCommand answers "command" only for entries that load
  const before = found.rest.at(-1) ?? "";
  const valued =
    before.startsWith("--") && !before.includes("=") ? flags.named(before.slice(2)) : /^-\w$/.test(before) ? flags.lettered(before.slice(1)) : undefined;
  if (valued !== undefined && valued.bare === undefined) return valuesOf(valued, call);
  if (typed.startsWith("-")) return flagsOf(flags);
  return namesFor(usage, call);
}

/** How many words stand before the command. */
function globalFlagWords(words: readonly string[]): number {
  let n = 0;
  while (n < words.length && words[n]!.startsWith("-")) {
    const word = words[n]!;
    const flag = word.startsWith("--") ? programFlags.named(word.slice(2)) : programFlags.lettered(word.slice(1));
    n += flag !== undefined && flag.bare === undefined ? 2 : 1;
  }
  return n;
}

function entries(level: Tree): Candidate[] {
  return Object.entries(level)
    .filter(([, entry]) => entry.hidden !== true)
    .map(([word, { about }]) => ({ word, about }));
}

function flagsOf({ all }: FlagSet): Candidate[] {
  return [...all.filter((flag) => !flag.hidden).map(({ name, help }) => ({ word: `--${name}`, about: help })), { word: "--help", about: "Print help" }];
}

const fixed: Readonly<Record<string, readonly string[]>> = {
  restart: ["no", "always", "unless-stopped", "on-failure"],
  "log-driver": ["json-file", "local", "journald", "syslog", "fluentd", "none"],
  pull: ["always", "missing", "never"],
  signal: ["HUP", "INT", "KILL", "QUIT", "STOP", "TERM", "USR1", "USR2"],
  type: ["container", "image", "network", "volume"],
};

async function valuesOf({ name }: Flag, call: Call): Promise<Candidate[]> {
  if (name === "network" || name === "net") return networks(call.client);
  if (name === "volumes-from") return containers(call.client);
  return (Object.hasOwn(fixed, name) ? (fixed[name] ?? []) : []).map((word) => ({ word, about: "" }));
}

/** By the words of a command's usage. A daemon that is not there has no names. */
async function namesFor(usage: string, call: Call): Promise<Candidate[]> {
  const [kind] = /\b(CONTAINER|IMAGE|NETWORK|VOLUME|CONTEXT)\b/.exec(usage) ?? [];
  switch (kind) {
    case "CONTAINER":
      return containers(call.client);
    case "IMAGE":
      return images(call.client);
    case "NETWORK":
      return networks(call.client);
    case "VOLUME":
      return ((await call.client.json<VolumeListJson>("GET", "/volumes")).Volumes ?? []).map(({ Name }) => ({ word: Name, about: "" }));
    case "CONTEXT":
      return [{ name: "default", description: "" }, ...(await listContexts(call.io))].map(({ name, description }) => ({ word: name, about: description }));
    default:
      return [];
  }
}

async function containers(client: ApiClient): Promise<Candidate[]> {
  const found = await client.json<ContainerSummary[]>("GET", "/containers/json", { query: { all: 1 } });
  return found.flatMap(({ Names, Status }) => Names.map((name) => ({ word: name.replace(/^\//, ""), about: Status })));
}

async function images(client: ApiClient): Promise<Candidate[]> {
  const found = await client.json<ImageSummary[]>("GET", "/images/json");
  return found.flatMap(({ RepoTags }) => (RepoTags ?? []).map((word) => ({ word, about: "" })));
}

async function networks(client: ApiClient): Promise<Candidate[]> {
  return (await client.json<NetworkJson[]>("GET", "/networks")).map(({ Name, Driver }) => ({ word: Name, about: Driver }));
}
