/** What docker's client says to whoever asks for what cannot be: nothing is pulled that is not missing, and the words are docker's. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasProgram, whyNot } from "./daemon.ts";
import { type Engines, type EngineUnderTest, normal, startEngines } from "./engines.ts";
import { ok, run } from "./run.ts";

const reason = whyNot() ?? (hasProgram("docker") ? undefined : "no docker client");
if (reason) console.warn(`mistakes: skipped: ${reason}`);

const nonShareable = "can't join IPC of container <id>: non-shareable IPC (hint: use IpcMode:shareable for the donor container)";

/** A command line, its exit code, and what the daemon says (without capitals: docker has changed them over the years). */
const mistakes: readonly (readonly [line: string, code: number, message: string])[] = [
  ["run --pid container:nope busybox true", 125, "no such container: nope"],
  ["run --ipc container:nope busybox true", 125, "no such container: nope"],
  ["run --network container:nope busybox true", 125, "no such container: nope"],
  ["run --volumes-from nope busybox true", 125, "no such container: nope"],
  ["run --link nope busybox true", 125, "could not get container for nope: no such container: nope"],
  ["run --network none --ipc container:private busybox true", 125, nonShareable],
  ["run --network none --ipc container:none busybox true", 125, nonShareable],
  ["run --network none --group-add bogus busybox true", 125, "unable to find group bogus: no matching entries in group file"],
  ["run --network none -u bogus busybox true", 125, "unable to find user bogus: no matching entries in passwd file"],
  ["ps --filter is-task=perhaps", 1, "invalid filter 'is-task=[perhaps]'"],
  ["volume ls --filter dangling=perhaps", 1, "invalid filter 'dangling=[perhaps]'"],
];

describe.skipIf(reason !== undefined)(`mistakes${reason ? ` (skipped: ${reason})` : ""}`, () => {
  let engines: Engines;
  const both = (): EngineUnderTest[] => [engines.wherry, ...(engines.dockerd === undefined ? [] : [engines.dockerd])];
  const env = (engine: EngineUnderTest) => ({ DOCKER_HOST: engine.host, DOCKER_CLI_HINTS: "0" });
  beforeAll(async () => {
    engines = await startEngines("wherry-mistakes-");
    for (const engine of both())
      for (const ipc of ["private", "none"])
        await ok(["docker", "run", "-d", "--name", ipc, "--ipc", ipc, "--network", "none", "busybox", "sleep", "1000"], { env: env(engine) });
  });
  afterAll(async () => {
    for (const engine of both()) await ok(["docker", "rm", "-f", "private", "none"], { env: env(engine) });
    expect(await engines?.stop()).toEqual([]);
  });

  test.each(mistakes)("docker %s", async (line, code, message) => {
    for (const engine of both()) {
      const result = await run(["docker", ...line.split(" ")], { env: env(engine) });
      const said = normal(result.stderr).toLowerCase();
      expect([result.code, said.match(/^(?:docker: )?error response from daemon: (.*?)\.?$/m)?.[1] ?? said], engine.name).toEqual([
        code,
        message.toLowerCase(),
      ]);
      expect(said).not.toContain("unable to find image");
    }
  });

  test("the primary group is among the supplementary ones, whoever the user is (CVE-2022-36109)", async () => {
    for (const engine of both()) {
      const groups = async (...args: string[]) => (await ok(["docker", ...args, "busybox", "id", "-G"], { env: env(engine) })).split(" ").map(Number);
      expect(await groups("run", "--rm", "--network", "none", "-u", "1000:5"), engine.name).toEqual([5]);
      const status = ["grep", "Groups:", "/proc/self/status"];
      for (const [user, expected] of [
        ["1000:5", "5"],
        ["1000", "0"],
        [":7", "7"],
      ] as const) {
        const run = await ok(["docker", "run", "--rm", "--network", "none", "-u", user, "busybox", ...status], { env: env(engine) });
        const exec = await ok(["docker", "exec", "-u", user, "private", ...status], { env: env(engine) });
        expect(
          [run, exec].map((text) => text.trim().split(/\s+/).slice(1).join(" ")),
          `${engine.name} ${user}`,
        ).toEqual([expected, expected]);
      }
    }
  });
});
