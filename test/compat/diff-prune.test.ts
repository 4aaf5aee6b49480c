/** What a container has changed, and which images a prune takes: the same with wherry as with dockerd 20.10 (where it is installed), by the stock docker client. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasProgram, whyNot } from "./daemon.ts";
import { type Engines, type EngineUnderTest, startEngines } from "./engines.ts";
import { ok, run } from "./run.ts";

const reason = whyNot() ?? (hasProgram("docker") ? undefined : "no docker client");
if (reason !== undefined) console.warn(`diff and prune: skipped: ${reason}`);

/** Adds, changes, deletes, changes of kind, of metadata only, of names; directories removed and made again. */
const script = [
  "mkdir -p /new/deep; echo a > /new/deep/file",
  "echo more >> /etc/lower-file",
  "rm /etc/second-layer",
  "chmod 700 /srv/things/one",
  "mv /etc/passwd /etc/moved 2>/dev/null || cp /bin/busybox /etc/moved",
  "rm -rf /srv/things && mkdir /srv/things && echo again > /srv/things/two",
  "rm -rf /new/deep; echo now-a-file > /new/deep",
  "mkfifo /pipe; mknod /dev-null c 1 3; ln -s /nowhere /link; ln /etc/lower-file /hard",
  "touch /made-and-gone; rm /made-and-gone",
].join("; ");

describe.skipIf(reason !== undefined)("diff and prune", () => {
  let engines: Engines;
  beforeAll(async () => {
    engines = await startEngines("wherry-diff-");
  }, 60_000);
  afterAll(async () => {
    expect(await engines.stop()).toEqual([]);
  }, 60_000);

  const sides = (): EngineUnderTest[] => [engines.wherry, ...(engines.dockerd === undefined ? [] : [engines.dockerd])];
  const env = ({ host }: EngineUnderTest) => ({ env: { DOCKER_HOST: host } });
  const docker = async (engine: EngineUnderTest, ...args: string[]) => (await ok(["docker", ...args], env(engine))).trim();

  test("a prune of all by label is none of builds, and a link is no container", async () => {
    const { wherry } = engines;
    expect(await docker(wherry, "system", "prune", "-f", "--filter", "label=nobody")).toBe("Total reclaimed space: 0B");
    await docker(wherry, "create", "--name", "linked", "busybox");
    const removed = await run(["docker", "rm", "--link", "linked"], env(wherry));
    expect([removed.code, removed.stderr]).toEqual([1, "Error response from daemon: Conflict, cannot remove the default link name of the container\n"]);
    expect(await docker(wherry, "rm", "linked")).toBe("linked");
  });

  test("diff names the same paths with the same letters, running and stopped, and after a commit none", async () => {
    const found = await Promise.all(
      sides().map(async (engine) => {
        const id = await docker(engine, "run", "-d", "--network", "none", "busybox", "sh", "-c", `${script}; touch /ready; sleep 100`);
        for (let n = 0; n < 100 && (await run(["docker", "exec", id, "test", "-e", "/ready"], env(engine))).code !== 0; n++)
          await new Promise((resolve) => setTimeout(resolve, 100));
        const running = (await docker(engine, "diff", id)).split("\n").sort();
        await docker(engine, "kill", id);
        const stopped = (await docker(engine, "diff", id)).split("\n").sort();
        await docker(engine, "commit", id, "changed");
        const fresh = await docker(engine, "create", "changed", "true");
        const committed = await docker(engine, "diff", fresh);
        const listing = await docker(
          engine,
          "run",
          "--rm",
          "--network",
          "none",
          "changed",
          "sh",
          "-c",
          "ls -lR /new /srv /etc/lower-file /hard /pipe /dev-null /link; test ! -e /etc/second-layer && echo gone",
        );
        await docker(engine, "rm", "-f", id, fresh);
        return { running, stopped, committed, listing: listing.replace(/ \w{3} +\d+ +[\d:]+ /g, " ") };
      }),
    );
    const [ours, theirs] = found;
    expect(ours!.running).toEqual(expect.arrayContaining(["A /new", "A /new/deep", "C /etc/lower-file", "D /etc/second-layer", "A /hard", "A /pipe"]));
    expect(ours!.stopped).toEqual(ours!.running);
    expect(ours!.committed).toBe("");
    if (theirs !== undefined) expect(ours).toEqual(theirs);
  }, 60_000);

  test("prune takes what its filters say", async () => {
    const rounds: readonly (readonly string[])[] = [
      ["--filter", "label=keep=no"],
      ["-a", "--filter", "label!=keep", "--filter", "label=kind=old"],
      ["-a", "--filter", "until=2001-01-01T00:00:00Z"],
      ["-a", "--filter", "until=1s", "--filter", "label=kind"],
      ["-a", "--filter", "dangling=true"],
      ["-a", "--filter", "nosuch=1"],
      [],
      ["-a"],
    ];
    const found = await Promise.all(
      sides().map(async (engine) => {
        const root = `${engines.work}/empty-${engine.name}.tar`;
        await ok(["tar", "-cf", root, "-T", "/dev/null"]);
        const make = (name: string, ...labels: string[]) =>
          docker(engine, "import", ...labels.flatMap((label) => ["--change", `LABEL ${label}`]), "--message", name, root, ...(name === "" ? [] : [name]));
        await make("kept:1", "keep=yes", "kind=old");
        await make("old:1", "kind=old");
        await make("new:1", "kind=new");
        await make("", "keep=no");
        await make("", "keep=maybe");
        await docker(engine, "create", "--name", "user", "kept:1", "x");
        // "1s" ago is told in whole seconds.
        await new Promise((resolve) => setTimeout(resolve, 2100));
        const left: string[] = [];
        for (const filters of rounds) {
          const { code } = await run(["docker", "image", "prune", "-f", ...filters], env(engine));
          const names = await docker(engine, "images", "--format", "{{.Repository}}:{{.Tag}}");
          left.push(`${code}: ${names.split("\n").sort().join(" ")}`);
        }
        await docker(engine, "rm", "user");
        return left;
      }),
    );
    const [ours, theirs] = found;
    expect(ours!.at(-1)).toBe("0: kept:1");
    if (theirs !== undefined) expect(ours).toEqual(theirs);
  }, 60_000);
});
