/** HEALTHCHECK on the real kernel. Texts, states and events are those of dockerd 20.10; with a timeout's output, of later ones. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { containerInspect, statusText } from "#api/server/shape/container.ts";
import type { HealthState } from "#container/mod.ts";
import type { EngineEvent } from "#engine/mod.ts";
import { certificates } from "../compat/certificates.ts";
import { eventually, TestEngine, until } from "./engine-setup.ts";

const MS = 1e6;

describe.skipIf(process.getuid?.() !== 0)("health checks", () => {
  let t: TestEngine;
  beforeAll(async () => {
    t = await TestEngine.open();
  });
  afterEach(async () => {
    await t.removeAll();
  });
  afterAll(async () => {
    expect(t.warnings).toEqual([]);
    await t[Symbol.asyncDispose]();
  });

  const record = (id: string) => t.engine.containers.get(id);
  const health = (id: string): HealthState => record(id).state.health ?? { status: "starting", failingStreak: -1, log: [] };
  const probed = (Test: string[], more: object = {}) => t.start(["sleep", "1000"], { Healthcheck: { Test, Interval: 50 * MS, Retries: 2, ...more } });
  const listed = (value: string) => t.engine.containers.list({ all: true, limit: undefined, filters: { health: [value] } }).map((c) => c.id);

  test("HTTP and TCP from inside the container's network, without a program in the image; wait until healthy; restart when unhealthy", async () => {
    const server = "httpd -f -p 127.0.0.1:8080 -h /www & while [ ! -e /stop ]; do sleep 0.05; done; kill $!; sleep 1000";
    const script = `mkdir -p /www && echo ok > /www/index.html && ${server}`;
    const check = (Test: string[]) => ({
      Healthcheck: { Test, Interval: 50 * MS, Timeout: 2000 * MS, Retries: 2, StartPeriod: 3000 * MS, StartInterval: 50 * MS },
    });
    const http = await t.start(["sh", "-c", script], { ...check(["HTTP", ":8080/"]), StopTimeout: 1 }, { WherryHealthOnFailure: "restart" });
    const tcp = await t.start(["sh", "-c", script], check(["TCP", "8080"]));
    await Promise.all([t.engine.containers.wait(http, "healthy"), t.engine.containers.wait(tcp, "healthy")]);
    expect(health(http).log.at(-1)).toMatchObject({ exitCode: 0, output: expect.stringMatching(/^HTTP\/1\.[01] 200 OK\nok\n$/) });
    const { pid } = record(http).state;
    await t.exec(tcp, ["touch", "/stop"]);
    await untilProbed(() => health(tcp).status === "unhealthy");
    expect(health(tcp).log.at(-1)).toMatchObject({ exitCode: 1, output: "TCP 8080: connection refused" });
    await expect(t.engine.containers.wait(tcp, "healthy")).rejects.toThrow(/is unhealthy: TCP 8080: connection refused/);
    await t.exec(http, ["rm", "-r", "/www"]);
    await untilProbed(() => record(http).state.pid !== pid && health(http).status === "healthy");
    const none = await t.start(["sleep", "1000"]);
    await expect(t.engine.containers.wait(none, "healthy")).rejects.toThrow(/has no health check/);
    await expect(t.create(["true"], { Healthcheck: { Test: ["HTTP", "https://x/"] } })).rejects.toThrow(/invalid health check/);
  });

  test("HTTPS from inside the container's network: any certificate, or those of one CA for the name that is called; what is wrong is told", async () => {
    certificates(t.root);
    const pem = (name: string) => readFileSync(join(t.root, `${name}.pem`), "utf8");
    const https = (url: string, ...ca: string[]) =>
      t.start(["sleep", "1000"], {
        Healthcheck: { Test: ["HTTP", url, ...ca], Interval: 50 * MS, Timeout: 2000 * MS, Retries: 2, StartPeriod: 5000 * MS, StartInterval: 50 * MS },
      });
    const serve = async (id: string) => {
      const script = `const pem = (name) => require("fs").readFileSync(process.argv[1] + "/" + name + ".pem");
        require("https").createServer({ key: pem("server-key"), cert: pem("server") }, (q, r) => r.writeHead(q.url === "/ok" ? 200 : 404).end("x".repeat(10000)))
          .listen(8443, "127.0.0.1", () => console.log("up")); require("net").createServer(() => {}).listen(8444, "127.0.0.1")`;
      const inside = ["-t", String(record(id).state.pid), "-n", process.execPath, "-e", script, t.root];
      const server = spawn("nsenter", inside, { stdio: ["ignore", "pipe", "inherit"] });
      servers.push(server);
      await once(server.stdout!, "data");
      return id;
    };
    const servers: ChildProcess[] = [];
    try {
      const [any, ours] = [await serve(await https("https://localhost:8443/ok")), await serve(await https("https://127.0.0.1:8443/ok", pem("ca")))];
      await Promise.all([t.engine.containers.wait(any, "healthy"), t.engine.containers.wait(ours, "healthy")]);
      expect(health(any).log.at(-1)?.output).toMatch(/^HTTP\/1\.1 200 OK\nx{1000}/);
      const outputs = async (url: string, ...ca: string[]) => {
        const id = await serve(await https(url, ...ca));
        // the first ones may have come before the server
        return await eventually(
          async () => health(id).log.at(-1)?.output ?? "",
          (text) => text !== "" && !text.includes("refused"),
          5000,
        );
      };
      expect(await outputs("https://127.0.0.1:8443/ok", pem("client"))).toMatch(/^HTTP https:\/\/127\.0\.0\.1:8443\/ok: (unable to|self-signed|self signed)/);
      expect(await outputs("https://localhost:8443/ok", pem("ca"))).toContain("does not match certificate's altnames");
      expect(await outputs("https://localhost:8443/no")).toMatch(/^HTTP\/1\.1 404/);
      const silent = await serve(await https("https://127.0.0.1:8444/"));
      await untilProbed(() => health(silent).log.some(({ output }) => output.includes("timeout") || output.includes("no answer in time")));
      expect(readdirSync(t.options.execRoot).filter((name) => name.startsWith("probe-")).length).toBeLessThanOrEqual(6); // those under way
      await t.removeAll();
      await until(() => !readdirSync(t.options.execRoot).some((name) => name.startsWith("probe-")));
    } finally {
      for (const server of servers) server.kill("SIGKILL");
    }
  }, 60_000);

  test("starting, unhealthy after the retries, healthy again: inspect, ps, its filter, events", async () => {
    const since = BigInt(Date.now()) * 1_000_000n;
    const id = await probed(["CMD-SHELL", "echo probe; test -e /ok"], { Interval: 300 * MS });
    expect(health(id)).toEqual({ status: "starting", failingStreak: 0, log: [] });
    expect(statusText(record(id), Date.now())).toBe("Up Less than a second (health: starting)");
    expect(listed("starting")).toEqual([id]);
    await untilProbed(() => health(id).status === "unhealthy");
    expect(listed("unhealthy")).toEqual([id]);
    expect(statusText(record(id), Date.now())).toMatch(/^Up .* \(unhealthy\)$/);
    const shown = containerInspect(record(id), { minor: 51, networkId: () => "", execIds: [], graph: {} }).State.Health;
    const probe = { Start: expect.stringMatching(/^2.*Z$/), End: expect.stringMatching(/^2.*Z$/), ExitCode: 1, Output: "probe\n" };
    expect(shown).toEqual({ Status: "unhealthy", FailingStreak: 2, Log: [probe, probe] });
    await t.exec(id, ["touch", "/ok"]);
    await untilProbed(() => health(id).status === "healthy");
    expect(listed("healthy")).toEqual([id]);
    expect(health(id).failingStreak).toBe(0);
    await untilProbed(() => health(id).log.every((l) => l.exitCode === 0));
    expect(health(id).log.length).toBe(5);
    expect(t.engine.execs.ids?.(id)).toEqual([]);
    await t.engine.containers.stop(id, { timeout: 0 });
    const events = await eventsOf(since, id);
    const command = "/bin/sh -c echo probe; test -e /ok";
    const actions = events.map((e) => e.Action);
    expect(actions.slice(0, 10)).toEqual([
      "create",
      "connect", // to the network none
      "start",
      ...Array<string[]>(2)
        .fill([`exec_create: ${command}`, `exec_start: ${command}`, "exec_die"])
        .flat(),
      "health_status: unhealthy",
    ]);
    expect(actions.filter((a) => a.startsWith("health_status"))).toEqual(["health_status: unhealthy", "health_status: healthy"]);
    const [created, began, died] = events.slice(3, 6).map((e) => e.Actor.Attributes);
    expect(created?.["execID"]).toMatch(/^[0-9a-f]{64}$/);
    expect([began?.["execID"], died?.["execID"], died?.["exitCode"]]).toEqual([created?.["execID"], created?.["execID"], "1"]);
    expect(await t.leftovers(`run/c/${id.slice(0, 24)}-`)).toEqual([]);
  });

  test("a probe has the container's user, directory and environment", async () => {
    const id = await t.start(["sleep", "1000"], {
      User: "www-data",
      WorkingDir: "/tmp",
      Env: ["X=y"],
      Healthcheck: { Test: ["CMD-SHELL", "id -un; pwd; echo $X"], Interval: 50 * MS },
    });
    await untilProbed(() => health(id).status === "healthy");
    expect(health(id).log[0]?.output).toBe("www-data\n/tmp\ny\n");
  });

  test("a probe that hangs is killed with its children, and nobody waits for it", async () => {
    const id = await probed(["CMD-SHELL", "echo part; sleep 987 & sleep 986; true"], { Timeout: 300 * MS, Retries: 1 });
    await untilProbed(() => health(id).status === "unhealthy");
    expect(health(id).log[0]).toMatchObject({ exitCode: -1, output: "Health check exceeded timeout (300ms): part\n" });
    expect((await t.exec(id, ["echo", "answers"])).out).toBe("answers\n");
    await t.engine.containers.pause(id);
    await t.engine.containers.unpause(id);
    await untilProbed(() => health(id).log.length >= 3);
    await t.engine.containers.pause(id);
    await untilProbed(() => monitorsOfExecs(id) <= 1);
    await t.engine.containers.unpause(id);
    // At most those of the probe that is under way.
    expect((await t.engine.containers.top(id, "")).Processes.filter((line) => line.at(-1)?.startsWith("sleep 98")).length).toBeLessThanOrEqual(2);
  });

  test("output is kept up to 4096 bytes; endless output is no harm; a process left behind does not hold the probe", async () => {
    const id = await probed(["CMD-SHELL", "yes | head -c 100000; sleep 500 & true"]);
    await untilProbed(() => health(id).log.length > 0);
    expect(health(id).log[0]).toMatchObject({ exitCode: 0, output: `${"y\n".repeat(2048)}...` });
    const endless = await probed(["CMD", "yes"], { Timeout: 200 * MS, Retries: 1 });
    await untilProbed(() => health(endless).log.length > 0);
    expect(health(endless).log[0]?.output).toBe(`Health check exceeded timeout (200ms): ${"y\n".repeat(2048)}...`);
  });

  test("a program that is not there: docker's words", async () => {
    const id = await probed(["CMD", "nope", "x"]);
    await untilProbed(() => health(id).status === "unhealthy");
    expect(health(id).log[0]).toMatchObject({
      exitCode: -1,
      output: expect.stringMatching(
        /^OCI runtime exec failed: exec failed: unable to start container process: exec: "nope": executable file not found in \$PATH: unknown$/,
      ),
    });
  });

  test("not probed while paused, nor after the end; a start begins again and keeps the log", async () => {
    const id = await probed(["CMD", "true"]);
    await untilProbed(() => health(id).status === "healthy");
    await t.engine.containers.pause(id);
    expect(health(id).status).toBe("unhealthy");
    expect(statusText(record(id), Date.now())).toMatch(/^Up .* \(Paused\)$/);
    const { log } = health(id);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(health(id).log).toEqual(log);
    await t.engine.containers.unpause(id);
    await untilProbed(() => health(id).status === "healthy");
    await t.engine.containers.stop(id, { timeout: 0 });
    const ended = health(id);
    expect(ended.status).toBe("unhealthy");
    expect(statusText(record(id), Date.now())).toMatch(/^Exited/);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(health(id)).toEqual(ended);
    await t.engine.containers.start(id);
    expect(health(id)).toEqual({ status: "starting", failingStreak: 0, log: ended.log });
    await untilProbed(() => health(id).status === "healthy");
  });

  test("a new daemon goes on from what was known", async () => {
    const id = await probed(["CMD-SHELL", "test ! -e /bad"]);
    const hangs = await probed(["CMD", "sleep", "985"], { Timeout: 60_000 * MS });
    await untilProbed(() => health(id).status === "healthy" && monitorsOfExecs(hangs) === 1);
    const begun = socketsOfExecs(hangs);
    await t.engine.close();
    await untilProbed(() => monitorsOfExecs(hangs) === 0);
    await t.reopen();
    expect(health(id).status).toBe("healthy");
    expect(health(hangs).status).toBe("starting");
    await t.exec(id, ["touch", "/bad"]);
    await untilProbed(() => health(id).status === "unhealthy");
    expect(health(id).log.at(-1)?.exitCode).toBe(1);
    await untilProbed(() => monitorsOfExecs(hangs) === 1);
    expect(socketsOfExecs(hangs)).not.toEqual(begun);
  });

  test("none, NONE: no health; what cannot be is refused or warned of", async () => {
    const none = await t.start(["sleep", "1000"]);
    const disabled = await t.start(["sleep", "1000"], { Healthcheck: { Test: ["NONE"] } });
    expect(record(none).state.health).toBeUndefined();
    expect(listed("none").sort()).toEqual([none, disabled].sort());
    expect(containerInspect(record(disabled), { minor: 51, networkId: () => "", execIds: [], graph: {} }).State).not.toHaveProperty("Health");
    const create = (Test: string[]) => t.engine.containers.create(t.request("busybox", ["true"], { Healthcheck: { Test } }));
    await expect(create(["CMD"])).rejects.toMatchObject({ code: "invalid", message: "Test in Healthcheck has CMD without a command" });
    expect((await create(["FOO", "x"])).warnings).toEqual(["Unknown healthcheck type 'FOO' (expected 'CMD'): the container's health is not checked"]);
  });

  test("a container without networking has only lo; a limit that this host lacks is warned of", async () => {
    const { id } = await t.engine.containers.create(t.request("busybox", ["ls", "/sys/class/net"], { NetworkDisabled: true }, { NetworkMode: "bridge" }));
    const ended = t.engine.containers.wait(id, "next-exit");
    await t.engine.containers.start(id);
    await ended;
    expect((await t.logs(id)).out).toBe("lo\n");
    const flags = (await t.engine.system.info()).cgroupFlags;
    const { warnings } = await t.engine.containers.create(t.request("busybox", ["true"], {}, { BlkioWeight: 200, MemorySwappiness: 10 }));
    const lacks = [
      ...(flags["BlkioWeight"] ? [] : ["Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."]),
      ...(flags["MemoryLimit"]
        ? []
        : ["Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded."]),
    ];
    expect([...warnings].sort()).toEqual(lacks.sort());
  });

  async function eventsOf(sinceNs: bigint, id: string): Promise<EngineEvent[]> {
    const events: EngineEvent[] = [];
    const untilNs = BigInt(Date.now() + 1) * 1_000_000n;
    for await (const event of t.engine.system.events({ sinceNs, untilNs, filters: { container: [id] } })) events.push(event);
    return events;
  }

  function monitorsOfExecs(id: string): number {
    return socketsOfExecs(id).length;
  }

  /** Of execs that run: those that a monitor listens at. */
  function socketsOfExecs(id: string): string[] {
    const prefix = join(t.options.execRoot, "c", `${id.slice(0, 24)}-`);
    const paths = readFileSync("/proc/net/unix", "utf8").split(/\s+/);
    return [...new Set(paths.filter((path) => path.startsWith(prefix)))];
  }
});

/** Probes come by the second. */
function untilProbed(condition: () => boolean): Promise<void> {
  return until(condition, 8000);
}
