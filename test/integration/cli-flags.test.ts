/** Every flag of docker's commands is one of ours, with its letter and the word for its value. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import type { Entry } from "#cli/command-tree.ts";
import { tree } from "#cli/commands.ts";
import { dockerCli } from "./docker-cli.fixture.ts";

/** Of the old builder. */
const notInBuild = ["compress", "disable-content-trust", "isolation", "security-opt"];
/** Flags that are left out, and why. */
const without: Readonly<Record<string, string>> = {
  "use-api-socket": "docs/compat.md",
  ...Object.fromEntries(["image build", "build", "builder build"].flatMap((build) => notInBuild.map((flag) => [`${build} --${flag}`, "docs/compat.md"]))),
  tree: "an experiment, of multi-platform images",
  cluster: "swarm",
  availability: "swarm",
  group: "swarm",
  "limit-bytes": "swarm",
  "required-bytes": "swarm",
  secret: "swarm",
  sharing: "swarm",
  "topology-preferred": "swarm",
  "topology-required": "swarm",
  "volume create --scope": "swarm",
  "volume create --type": "swarm",
  ingress: "swarm",
  "config-from": "swarm",
  "config-only": "swarm",
};

interface HelpFlag {
  readonly name: string;
  readonly short: string;
  readonly metavar: string;
}

/** The flags that a help text lists. */
function flagsOf(help: string): HelpFlag[] {
  return [...help.matchAll(/^ {2}(?:-(\w), | {4})--([a-z0-9-]+)(?: ([a-z0-9-]+))? {2,}/gm)].map(([, short = "", name = "", metavar = ""]) => ({
    name,
    short,
    metavar,
  }));
}

const commands = Object.entries(tree).flatMap(([name, entry]): [string, Entry][] =>
  entry.sub === undefined ? [[name, entry]] : Object.entries(entry.sub).map(([sub, e]): [string, Entry] => [`${name} ${sub}`, e]),
);
/** Commands of ours. */
const own = ["image bootstrap", "image import-store", "system facts", "system dial-stdio", "storage ls", "storage compare", "dns trace", "cache serve"];

const docker = await dockerCli();

describe.skipIf(docker === undefined)("docker's flags (skipped without the docker CLI)", () => {
  it("its help is understood", async () => {
    const { stdout } = await promisify(execFile)(docker!, ["run", "--help"]);
    const flags = flagsOf(stdout);
    expect(flags.length).toBeGreaterThan(90);
    expect(flags).toContainEqual({ name: "memory", short: "m", metavar: "bytes" });
  });

  it.each(commands.filter(([name]) => !own.includes(name) && !/^(socket|registry) /.test(name)))("%s", async (name, entry) => {
    const { stdout } = await promisify(execFile)(docker!, [...name.split(" "), "--help"]);
    const theirs = flagsOf(stdout).filter((f) => f.name !== "help" && !(f.name in without) && !(`${name} --${f.name}` in without));
    const { flags } = await entry.load!();
    const ours = theirs.map(({ name: flag }) => {
      const known = flags.named(flag);
      return { name: known?.name ?? `missing: ${flag}`, short: known?.short ?? "", metavar: known?.metavar ?? "" };
    });
    expect(ours).toEqual(theirs);
  });
});
