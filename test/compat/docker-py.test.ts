/** docker-py (Debian python3-docker): one job on wherry and beside it on dockerd 20.10; what its user sees must be the same. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasProgram, whyNot } from "./daemon.ts";
import { type Engines, normal, startEngines } from "./engines.ts";
import { ok } from "./run.ts";

const python = spawnSync("/usr/bin/python3", ["-c", "import docker, websocket"]).status === 0;
const reason = whyNot() ?? (python ? undefined : "no python3-docker of Debian") ?? (hasProgram("docker") ? undefined : "no docker client");
if (reason) console.warn(`docker-py: skipped: ${reason}`);

const job = fileURLToPath(new URL("docker-py.job.py", import.meta.url));

describe.skipIf(reason !== undefined)(`docker-py${reason ? ` (skipped: ${reason})` : ""}`, () => {
  let engines: Engines;
  beforeAll(async () => {
    engines = await startEngines("wt-py-");
  });
  afterAll(async () => {
    expect(await engines.stop()).toEqual([]);
  });

  const perform = async (...args: string[]): Promise<Record<string, unknown>> =>
    Object.fromEntries(JSON.parse(normal(await ok(["/usr/bin/python3", job, ...args]))) as [string, unknown][]);

  test("a job looks the same as on dockerd", async () => {
    const { "attached logs": replayed, ...ours } = await perform(engines.wherry.host, "replay");
    expect(replayed).toBe("started\n");
    expect(ours).toMatchObject({ ping: true, health: ["healthy", 0], websocket: "over a websocket\n" });
    expect(ours["memory limit"]).toBeGreaterThan(0);
    if (engines.dockerd === undefined) return;
    const theirs = await perform(engines.dockerd.host);
    // dockerd 20.10 has no memory figures for its containers while it runs in a memory cgroup that somebody has removed meanwhile.
    theirs["memory limit"] ??= ours["memory limit"];
    // docs/compat.md: "wait", "why a container ended".
    expect({ ...ours, wait: { ...(ours.wait as object), Error: null, Reason: undefined } }).toEqual(theirs);
  });
});
