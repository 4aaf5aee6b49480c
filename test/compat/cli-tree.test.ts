/**
 * Every command and flag of the stock docker CLI has its wherry twin: the CLI's `--help` is walked as a person would, and compared with our table of commands.
 * What differs stands below with its reason; docs/compat.md tells it to people.
 */
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { findCommand } from "#cli/commands.ts";
import { programFlags } from "#cli/program-flags.ts";
import { dockerCli } from "../integration/docker-cli.fixture.ts";
import { dockerHelp, lacking } from "./docker-help.ts";

const docker = await dockerCli();

/** The builder grows: these may come without this list being told. */
const notTakenYet = "of docker's old builder; ours does not take it yet";

/** Flags that wherry lacks, as "command --flag". */
const lackingFlags: Readonly<Record<string, string>> = {
  ...reasons("experimental in docker", ["run", "create", "container run", "container create"], ["use-api-socket"]),
  ...reasons("experimental in docker; ours is `image tree`", ["images", "image ls"], ["tree"]),
  ...reasons(notTakenYet, ["build", "builder build", "image build"], "compress disable-content-trust isolation security-opt".split(" ")),
  ...reasons("networks of a swarm", ["network create"], ["config-from", "config-only", "ingress"]),
  ...reasons(
    "volumes of a swarm",
    ["volume create"],
    "availability group limit-bytes required-bytes scope secret sharing topology-preferred topology-required type".split(" "),
  ),
  ...reasons("volumes of a swarm", ["volume ls"], ["cluster"]),
};

function reasons(why: string, commands: readonly string[], flags: readonly string[]): Record<string, string> {
  return Object.fromEntries(commands.flatMap((command) => flags.map((flag) => [`${command} --${flag}`, why])));
}

test.skipIf(docker === undefined)("docker's commands and flags are wherry's", { timeout: 120_000 }, async () => {
  const theirs = await dockerHelp();
  expect(theirs.size).toBeGreaterThan(100);
  const missing: string[] = [];
  for (const [path, level] of theirs) {
    const words = path === "" ? [] : path.split(" ");
    if (lacking[path] !== undefined || lacking[words[0] ?? ""] !== undefined) continue;
    if (path === "") {
      missing.push(...level.flags.filter((flag) => programFlags.named(flag) === undefined).map((flag) => `--${flag}`));
      continue;
    }
    const ours = findCommand(words);
    if (ours.kind === "unknown") missing.push(path);
    else if (ours.kind === "command") {
      const command = await ours.entry.load!();
      missing.push(...level.flags.filter((flag) => flag !== "help" && command.flags.named(flag) === undefined).map((flag) => `${path} --${flag}`));
    }
  }
  expect(missing.filter((what) => lackingFlags[what] === undefined)).toEqual([]);
  // A reason for what is there is a reason too many.
  expect(Object.keys(lackingFlags).filter((what) => lackingFlags[what] !== notTakenYet && !missing.includes(what))).toEqual([]);
  const told = await readFile(new URL("../../docs/compat.md", import.meta.url), "utf8");
  for (const command of Object.keys(lacking)) expect(told, command).toContain(`\`${command}\``);
});
