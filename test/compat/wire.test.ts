/** The wire itself, on a real daemon (root): what no client library would let one see. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { httpCall, TestDaemon, whyNot } from "./daemon.ts";
import { busyboxArchive } from "./images.ts";
import { dataOf, framesOf, type RawConnection, rawConnection } from "./raw.ts";
import { eventually } from "./run.ts";

import { readFileSync } from "node:fs";

const reason = whyNot();
if (reason) console.warn(`wire: skipped: ${reason}`);

describe.skipIf(reason !== undefined)(`the wire${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const work = mkdtempSync(join(tmpdir(), "wt-wire-"));
  const daemon = new TestDaemon();
  const api = (method: string, path: string, body?: unknown) => daemon.api(method, path, body);
  const raw = (): RawConnection => rawConnection(daemon.socket);

  beforeAll(async () => {
    const archive = busyboxArchive(work);
    await daemon.start();
    const loaded = await api("POST", "/images/load?quiet=1", readFileSync(archive.path));
    expect([loaded.status, loaded.text]).toEqual([200, '{"stream":"Loaded image: busybox:latest\\n"}\r\n']);
  });

  afterAll(async () => {
    const left = await daemon.stop();
    rmSync(work, { recursive: true, force: true });
    expect(left).toEqual([]);
  });

  const create = async (config: Record<string, unknown>, host: Record<string, unknown> = {}): Promise<string> => {
    const reply = await api("POST", "/containers/create", { Image: "busybox", ...config, HostConfig: { NetworkMode: "none", ...host } });
    expect(reply.status, reply.text).toBe(201);
    return reply.json<{ Id: string }>().Id;
  };
  const start = async (id: string): Promise<void> => {
    const reply = await api("POST", `/containers/${id}/start`);
    expect(reply.status, reply.text).toBe(204);
  };
  const remove = async (id: string): Promise<void> => {
    expect((await api("DELETE", `/containers/${id}?force=1&v=1`)).status).toBe(204);
  };
  const upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";

  test("ping tells a client all that it negotiates by", async () => {
    for (const method of ["HEAD", "GET"]) {
      const reply = await httpCall(daemon.socket, method, "/_ping");
      expect([reply.status, reply.text]).toEqual([200, method === "GET" ? "OK" : ""]);
      expect(reply.headers).toMatchObject({
        "api-version": "1.51",
        "docker-experimental": "false",
        ostype: "linux",
        "builder-version": "1",
        swarm: "inactive",
        "cache-control": "no-cache, no-store, must-revalidate",
        pragma: "no-cache",
      });
    }
  });

  test("bad requests: version, JSON, types, image, name, filter", async () => {
    const message = async (method: string, path: string, status: number, body?: unknown): Promise<string> => {
      const reply = await httpCall(daemon.socket, method, path, body);
      expect([path, reply.status]).toEqual([path, status]);
      return reply.json<{ message: string }>().message;
    };
    expect(await message("GET", "/v1.99/info", 400)).toBe("client version 1.99 is too new. Maximum supported API version is 1.51");
    expect(await message("GET", "/nowhere", 404)).toBe("page not found");
    expect(await message("POST", "/containers/create", 400, { Image: 5 })).toBe("invalid request: Image: expected a string, got 5");
    expect(await message("POST", "/containers/create", 404, { Image: "nope" })).toBe("No such image: nope:latest");
    expect(await message("GET", "/containers/nope/json", 404)).toBe("No such container: nope");
    expect(await message("GET", `/containers/json?filters=${encodeURIComponent('{"colour":["red"]}')}`, 400)).toBe("invalid filter 'colour'");
    expect(await message("POST", "/containers/create?name=a%20b", 400, { Image: "busybox" })).toContain(
      "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
    );
    const broken = raw();
    broken.socket.write('POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5\r\nConnection: close\r\n\r\n{"a":');
    expect(await broken.ended()).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n[\s\S]*"message":"invalid JSON: /);
    const id = await create({ Cmd: ["true"] });
    const { Name } = (await api("GET", `/containers/${id}/json`)).json<{ Name: string }>();
    expect(await message("POST", `/containers/create?name=${Name.slice(1)}`, 409, { Image: "busybox" })).toBe(
      `Conflict. The container name "${Name}" is already in use by container "${id}". You have to remove (or rename) that container to be able to reuse that name.`,
    );
    await remove(id);
  });

  test("docker run's dance: attach and wait before start, header of wait at once, frames, exit code", async () => {
    const id = await create({ Cmd: ["sh", "-c", "echo out; echo err >&2; cat; exit 3"], OpenStdin: true, StdinOnce: true, AttachStdin: true });
    const attached = raw();
    attached.socket.write(`POST /v1.51/containers/${id}/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: x\r\n${upgrade}\r\n`);
    const header = await attached.until("\r\n\r\n");
    expect(header).toMatch(/^HTTP\/1\.1 101 UPGRADED\r\n/);
    expect(header).toContain("Content-Type: application/vnd.docker.multiplexed-stream\r\n");
    const waiting = raw();
    waiting.socket.write(`POST /v1.51/containers/${id}/wait?condition=next-exit HTTP/1.1\r\nHost: x\r\n\r\n`);
    expect(await waiting.until("\r\n\r\n")).toMatch(/^HTTP\/1\.1 200 OK/);
    await start(id);
    attached.socket.write("typed");
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(waiting.text()).not.toContain("StatusCode");
    attached.socket.end(" and closed");
    const frames = framesOf(await attached.ended());
    expect([dataOf(frames, 1), dataOf(frames, 2)]).toEqual(["out\ntyped and closed", "err\n"]);
    expect(await waiting.until("StatusCode")).toContain('{"StatusCode":3}');
    waiting.socket.destroy();
    await remove(id);
  });

  test("attach without Upgrade, on a terminal: raw bytes, older content type", async () => {
    const id = await create({ Cmd: ["sh", "-c", "read a; echo got $a"], Tty: true, OpenStdin: true });
    await start(id);
    const attached = raw();
    attached.socket.write(`POST /v1.41/containers/${id}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\n\r\nhello\n`);
    const reply = await attached.ended();
    expect(reply).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(reply).toContain("Content-Type: application/vnd.docker.raw-stream\r\n");
    expect(reply).toContain("got hello\r\n");
    await remove(id);
  });

  test("a client that leaves an attach does not disturb the container", async () => {
    const id = await create({ Cmd: ["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; usleep 20000; done"] });
    const attached = raw();
    attached.socket.write(`POST /containers/${id}/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\n${upgrade}\r\n`);
    await attached.until("\r\n\r\n");
    await start(id);
    await attached.until("5\n");
    attached.socket.destroy();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect((await api("GET", `/containers/${id}/json`)).json<{ State: { Status: string } }>().State.Status).toBe("running");
    await remove(id);
  });

  test("attach with logs replays what was said before", async () => {
    const id = await create({ Cmd: ["sh", "-c", "echo before; sleep 1; echo after"] });
    await start(id);
    await eventually(
      () => api("GET", `/containers/${id}/logs?stdout=1`),
      (reply) => reply.text.includes("before"),
    );
    const attached = raw();
    attached.socket.write(`POST /containers/${id}/attach?stream=1&stdout=1&logs=1 HTTP/1.1\r\nHost: x\r\n${upgrade}\r\n`);
    expect(dataOf(framesOf(await attached.ended()), 1)).toBe("before\nafter\n");
    await remove(id);
  });

  test("exec: JSON in the request, stdin right behind it, half-close, exit code", async () => {
    const id = await create({ Cmd: ["sleep", "1000"] });
    await start(id);
    for (const [bare, minor] of [
      [false, 51],
      [true, 41],
    ] as const) {
      const { Id } = (
        await api("POST", `/containers/${id}/exec`, {
          Cmd: ["sh", "-c", "cat; echo err >&2; exit 6"],
          AttachStdin: true,
          AttachStdout: true,
          AttachStderr: true,
        })
      ).json<{ Id: string }>();
      const json = '{"Detach":false,"Tty":false}';
      const connection = raw();
      connection.socket.end(
        `POST /v1.${minor}/exec/${Id}/start HTTP/1.1\r\nHost: x\r\n${bare ? "" : upgrade}Content-Type: application/json\r\nContent-Length: ${json.length}\r\n\r\n${json}right behind`,
      );
      const reply = await connection.ended();
      expect(reply).toMatch(bare ? /^HTTP\/1\.1 200 OK\r\n/ : /^HTTP\/1\.1 101 UPGRADED\r\n/);
      const frames = framesOf(reply);
      expect([dataOf(frames, 1), dataOf(frames, 2)]).toEqual(["right behind", "err\n"]);
      const inspected = await eventually(
        async () => (await api("GET", `/exec/${Id}/json`)).json<{ Running: boolean; ExitCode: number | null }>(),
        (exec) => !exec.Running,
      );
      expect(inspected.ExitCode).toBe(6);
    }
    await remove(id);
  });

  test("events: the header before any event, every field, and filters", async () => {
    const filters = encodeURIComponent(JSON.stringify({ type: ["container"], label: ["wire=yes"] }));
    const events = raw();
    events.socket.write(`GET /v1.51/events?filters=${filters} HTTP/1.1\r\nHost: x\r\n\r\n`);
    expect(await events.until("\r\n\r\n")).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*Content-Type: application\/json\r\n/);
    const other = await create({ Cmd: ["true"] });
    const id = await create({ Cmd: ["sh", "-c", "exit 4"], Labels: { wire: "yes" } });
    await start(id);
    await api("POST", `/containers/${id}/wait`);
    await remove(id);
    await remove(other);
    const text = await events.until('"Action":"destroy"');
    events.socket.destroy();
    const list = text
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map(
        (line) =>
          JSON.parse(line) as {
            Action: string;
            Actor: { ID: string; Attributes: Record<string, string> };
            status: string;
            id: string;
            from: string;
            scope: string;
            timeNano: number;
          },
      );
    expect(list.map((event) => event.Action)).toEqual(["create", "start", "die", "destroy"]);
    for (const event of list) {
      expect(event).toMatchObject({
        status: event.Action,
        id,
        from: "busybox",
        scope: "local",
        Actor: { ID: id, Attributes: { image: "busybox", wire: "yes" } },
      });
    }
    expect(list[2]!.Actor.Attributes).toMatchObject({ exitCode: "4", execDuration: expect.stringMatching(/^\d+$/) });
    expect(text).toMatch(/"timeNano":\d{19}[,}]/);
  });

  test("pipelined requests are answered in order, a half-closed client gets its answer", async () => {
    const connection = raw();
    connection.socket.end("GET /version HTTP/1.1\r\nHost: x\r\n\r\nGET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    const text = await connection.ended();
    expect(text.indexOf('"ApiVersion"')).toBeLessThan(text.indexOf("\r\n\r\nOK"));
    expect(text.endsWith("OK")).toBe(true);
  });

  test("logs of a silent container: header at once, the line when it comes, the end with the container", async () => {
    const id = await create({ Cmd: ["sh", "-c", "sleep 1; echo late"] });
    await start(id);
    const logs = raw();
    logs.socket.write(`GET /containers/${id}/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n`);
    expect(await logs.until("\r\n\r\n", 900)).toMatch(/^HTTP\/1\.1 200 OK/);
    expect(await logs.until("late\n")).toContain("\u0001\0\0\0\0\0\0\u0005late\n");
    await logs.until("\r\n0\r\n\r\n");
    logs.socket.destroy();
    await remove(id);
  });

  test("replies of a running container conform to docker's description", async () => {
    await api("POST", "/volumes/create", { Name: "wire-v" });
    const id = await create(
      { Cmd: ["sleep", "1000"], ExposedPorts: { "80/tcp": {} }, Labels: { a: "b" } },
      { NetworkMode: "bridge", Memory: 50_000_000, Binds: ["wire-v:/v"], PortBindings: { "80/tcp": [{ HostPort: "" }] } },
    );
    await start(id);
    const { Id: exec } = (await api("POST", `/containers/${id}/exec`, { Cmd: ["true"] })).json<{ Id: string }>();
    for (const [method, path, body] of [
      ["GET", `/containers/${id}/json?size=1`],
      ["GET", "/containers/json?size=1"],
      ["GET", `/containers/${id}/stats?stream=0`],
      ["GET", `/containers/${id}/stats?stream=0&one-shot=1`],
      ["GET", `/containers/${id}/top`],
      ["GET", `/containers/${id}/changes`],
      ["POST", `/containers/${id}/update`, { Memory: 60_000_000, MemorySwap: 120_000_000 }],
      ["GET", `/exec/${exec}/json`],
      ["GET", "/images/json"],
      ["GET", "/images/busybox/json"],
      ["GET", "/images/busybox/history"],
      ["GET", "/info"],
      ["GET", "/version"],
      ["GET", "/system/df"],
      ["GET", "/networks"],
      ["GET", "/networks/bridge"],
      ["GET", "/volumes"],
      ["GET", "/volumes/wire-v"],
    ] as const) {
      expect((await httpCall(daemon.socket, method, `/v1.50${path}`, body)).status, path).toBe(200);
    }
    expect(daemon.deviations()).toEqual([]); // the socket has checked each of them
    type Stats = {
      precpu_stats: { system_cpu_usage: number };
      cpu_stats: { system_cpu_usage: number; online_cpus: number };
      memory_stats: { usage: number; limit: number };
      networks: object;
    };
    const stats = (await api("GET", `/containers/${id}/stats?stream=0`)).json<Stats>();
    expect(stats.cpu_stats.system_cpu_usage).toBeGreaterThan(stats.precpu_stats.system_cpu_usage);
    expect(stats.memory_stats.limit).toBe(Math.floor(60_000_000 / 4096) * 4096);
    expect(Object.keys(stats.networks)).toEqual(["eth0"]);
    await remove(id);
    expect((await api("DELETE", "/volumes/wire-v")).status).toBe(204);
  });

  test("50 MB of logs are read back whole", async () => {
    const id = await create({ Cmd: ["sh", "-c", `yes ${"0123456789".repeat(4)}012345678 | head -n 1000000`] });
    await start(id);
    await api("POST", `/containers/${id}/wait`);
    const reply = await api("GET", `/containers/${id}/logs?stdout=1`);
    expect(reply.text.length).toBe(58_000_000);
    await remove(id);
  });

  test("explain prints a plan and makes nothing", async () => {
    const before = (await api("GET", "/containers/json?all=1")).text;
    const plan = await api("POST", "/wherry/explain?format=text", { Image: "busybox", Cmd: ["true"] });
    expect([plan.status, plan.text]).toEqual([200, expect.stringContaining("clone")]);
    const json = await api("POST", "/wherry/explain?format=json", { Image: "busybox", Cmd: ["true"] });
    expect(json.json()).toBeTypeOf("object");
    expect((await api("GET", "/containers/json?all=1")).text).toBe(before);
  });
});
