/** What `docker events` tells of a container's life, with its networks and volumes: the same, in the same order, as dockerd. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasProgram, whyNot } from "./daemon.ts";
import { type Engines, type EngineUnderTest, startEngines } from "./engines.ts";
import { eventually, ok } from "./run.ts";

const reason = whyNot() ?? (hasProgram("docker") ? undefined : "no docker client");
if (reason) console.warn(`events: skipped: ${reason}`);

describe.skipIf(reason !== undefined)(`events${reason ? ` (skipped: ${reason})` : ""}`, () => {
  let engines: Engines;
  beforeAll(async () => {
    engines = await startEngines("wherry-events-");
  });
  afterAll(async () => {
    expect(await engines?.stop()).toEqual([]);
  });

  /** Each line a command, then what happened: type, action and attributes, without ids and what newer dockers add. */
  async function life(engine: EngineUnderTest): Promise<string[]> {
    const docker = (...args: string[]) => ok(["docker", ...args], { env: { DOCKER_HOST: engine.host } });
    const from = String(Date.now() / 1000);
    const told = async () =>
      (await docker("events", "--since", from, "--until", String(Date.now() / 1000), "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes}}"))
        .split("\n")
        .map((line) => line.replace(/execDuration:\d+ | org\.example\.kind:test/g, "").replace(/\b[0-9a-f]{64}\b/g, "<id>"));
    await docker("run", "-d", "--name", "one", "-v", "data:/x", "-v", "/own", "-v", "/tmp:/t", "--network", "none", "busybox", "sleep", "1000");
    await docker("stop", "-t", "0", "one");
    await docker("start", "one");
    await docker("exec", "one", "true");
    await docker("exec", "one", "sh", "-c", "exit 3").catch(() => undefined); // its code is docker's, too
    await docker("kill", "one");
    await docker("wait", "one");
    await docker("rm", "-v", "one");
    await docker("run", "--rm", "--name", "two", "-v", "data:/x:ro", "--network", "none", "busybox", "true");
    await eventually(told, (lines) => lines.some((line) => /^container destroy .*two/.test(line)));
    await docker("volume", "rm", "data");
    return told();
  }

  const use = ["network connect map[container:<id> name:none type:null]"];
  const mount = (path: string, rw = true) => `volume mount map[container:<id> destination:${path} driver:local propagation: read/write:${rw}]`;
  const unmount = "volume unmount map[container:<id> driver:local]";
  const left = "network disconnect map[container:<id> name:none type:null]";
  const one = (action: string, more = "") => `container ${action} map[${more}image:busybox name:one]`;
  const exec = (command: string, code: number) => [
    `container exec_create: ${command} map[execID:<id> image:busybox name:one]`,
    `container exec_start: ${command} map[execID:<id> image:busybox name:one]`,
    `container exec_die map[execID:<id> exitCode:${code} image:busybox name:one]`,
  ];
  const killed = [one("die", "exitCode:137 "), left, unmount, unmount];

  test("a life: created, started, stopped, started, entered, killed, removed; another that removes itself", async () => {
    const ours = await life(engines.wherry);
    expect(ours).toEqual([
      ...["volume create map[driver:local]", "volume create map[driver:local]", one("create")],
      ...[...use, mount("/x"), mount("/own"), one("start")],
      ...[one("kill").replace("name:one", "name:one signal:15"), one("kill").replace("name:one", "name:one signal:9"), ...killed, one("stop")],
      ...[...use, mount("/x"), mount("/own"), one("start")],
      ...exec("true ", 0),
      ...exec("sh -c exit 3", 3),
      ...[one("kill").replace("name:one", "name:one signal:9"), ...killed],
      ...["volume destroy map[driver:local]", one("destroy")],
      ...["create", "attach"].map((action) => `container ${action} map[image:busybox name:two]`),
      ...[...use, mount("/x", false), "container start map[image:busybox name:two]"],
      ...["container die map[exitCode:0 image:busybox name:two]", left, unmount, "container destroy map[image:busybox name:two]"],
      "volume destroy map[driver:local]",
    ]);
    if (engines.dockerd === undefined) return;
    // 20.10 tells of a volume's creation whenever it is asked for one.
    const theirs = await life(engines.dockerd);
    const again = theirs.lastIndexOf("volume create map[driver:local]");
    // dockerd mounts what lies equally deep in an order that is another each time.
    const inAnyOrder = (lines: readonly string[]) =>
      lines
        .join("\n")
        .replace(/(?:^volume mount .*(?:\n|$))+/gm, (run) => run.trimEnd().split("\n").sort().join("\n") + (run.endsWith("\n") ? "\n" : ""))
        .split("\n");
    expect(inAnyOrder(theirs.filter((_line, at) => at !== again))).toEqual(inAnyOrder(ours));
  });
});
