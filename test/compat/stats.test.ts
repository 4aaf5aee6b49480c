/** `stats`: the same fields, of the same kinds, as dockerd's for the same container; and what docker's client makes of them. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { httpCall, whyNot } from "./daemon.ts";
import { Dockerd } from "./dockerd.ts";
import { type Engines, type EngineUnderTest, startEngines } from "./engines.ts";
import { ok } from "./run.ts";

const why = whyNot() ?? Dockerd.missing;

/** What a value looks like: of an object its keys, of a list what its elements have in common, of a number that it is one. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return [...new Set(value.map((item) => JSON.stringify(shapeOf(item))))].sort();
  if (typeof value !== "object" || value === null) return value === null ? null : typeof value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, shapeOf(item)]));
}

describe.skipIf(why !== undefined)(`stats beside dockerd${why === undefined ? "" : ` (${why})`}`, () => {
  let engines: Engines;
  const ids = new Map<string, string>();
  const both = () => [engines.dockerd, engines.wherry].filter((engine): engine is EngineUnderTest => engine !== undefined);
  const docker = (engine: EngineUnderTest, ...args: string[]) => ok(["docker", ...args], { env: { DOCKER_HOST: engine.host } });
  beforeAll(async () => {
    engines = await startEngines("wherry-stats-");
    for (const engine of both()) {
      const limits = ["-m", "64m", "--cpus", "0.5", "--pids-limit", "50", "--network", "none"];
      ids.set(engine.name, await docker(engine, "run", "-d", "--name", "counted", ...limits, "busybox", "sleep", "1000"));
      // This dockerd has no network. No limits; and one that does not run.
      ids.set(`${engine.name} plain`, await docker(engine, "run", "-d", "--network", "none", "busybox", "sleep", "1000"));
      ids.set(`${engine.name} created`, await docker(engine, "create", "busybox", "sleep", "1000"));
    }
  }, 60_000);
  afterAll(async () => {
    for (const engine of both()) await docker(engine, "rm", "-f", ...[...ids].filter(([key]) => key.startsWith(engine.name)).map(([, id]) => id));
    expect(await engines?.stop()).toEqual([]);
  });

  const stats = async (engine: EngineUnderTest, which: string, query: string) => {
    const reply = await httpCall(engine.socket, "GET", `/v1.41/containers/${ids.get(`${engine.name}${which}`)}/stats?stream=0${query}`);
    return reply.json<Record<string, unknown>>();
  };

  test.each([
    ["with limits", "", ""],
    ["with limits, one shot", "", "&one-shot=1"],
    ["without limits", " plain", ""],
    ["that does not run", " created", ""],
  ])("of a container %s", async (_what, which, query) => {
    const [theirs, ours] = await Promise.all(both().map((engine) => stats(engine, which, query)));
    // Which devices a container has used is its own affair.
    const comparable = ({ blkio_stats, ...rest }: Record<string, unknown>) => {
      const lists = Object.entries(blkio_stats as Record<string, unknown[] | null>).map(([name, list]) => [name, list === null ? null : "list"]);
      const { stats: counters, ...memory } = rest["memory_stats"] as { stats?: Record<string, number> };
      return { shape: shapeOf({ ...rest, memory_stats: memory, blkio_stats: Object.fromEntries(lists) }), counters: Object.keys(counters ?? {}) };
    };
    const [expected, got] = [comparable(theirs ?? {}), comparable(ours ?? {})];
    expect(got.shape).toEqual(expected.shape);
    // All that the kernel counts, which is more than dockerd hands on.
    expect(got.counters).toEqual(expect.arrayContaining(expected.counters));
  });

  test("a limit is a limit, and nothing stands for none", async () => {
    const limits = async (engine: EngineUnderTest, which: string) => {
      const { memory_stats: memory, pids_stats: pids } = (await stats(engine, which, "&one-shot=1")) as Record<string, { limit?: number }>;
      return [memory?.limit, pids?.limit];
    };
    for (const which of ["", " plain"]) {
      const [theirs, ours] = await Promise.all(both().map((engine) => limits(engine, which)));
      expect(ours).toEqual(theirs);
    }
  });

  test("docker stats: its columns, and nothing that a client cannot work out", async () => {
    const format = "{{.Name}}|{{.CPUPerc}}|{{.MemUsage}}|{{.MemPerc}}|{{.NetIO}}|{{.BlockIO}}|{{.PIDs}}";
    for (const args of [[], ["--format", format], ["-a", "--format", format]]) {
      const [theirs, ours] = await Promise.all(
        both().map(async (engine) => {
          const names = args.includes("-a") ? [] : ["counted"];
          const lines = (await docker(engine, "stats", "--no-stream", ...args, ...names)).split("\n");
          // Numbers differ from one moment to the next; their number and units do not.
          const plain = lines.map((line) =>
            line
              .replace(/[0-9a-f]{12}/, "<id>")
              .replace(/^[a-z]+_[a-z]+\d?\|/, "<name>|")
              .replace(/[\d.]+([kKMGi]*B)/g, (_, unit: string) => (unit.endsWith("iB") ? "<MiB>" : "<B>"))
              .replace(/[\d.]+%/g, "<%>")
              .replace(/ {2,}/g, "  "),
          );
          return plain.sort();
        }),
      );
      expect(ours).toEqual(theirs);
    }
  });
});
