/** A container's life, driven through the engine on the real kernel. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { parseRfc3339Nano } from "../../src/container/logs/json-line.ts";
import type { EngineEvent } from "#engine/mod.ts";
import { probeHost } from "#linux/probe-host.ts";
import { readAll, TestEngine, until } from "./engine-setup.ts";

const facts = await probeHost();

describe.skipIf(process.getuid?.() !== 0)("engine", () => {
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

  test("runs a program and says how it ended", async () => {
    const { id, code, out, err } = await t.run(["sh", "-c", "echo hi; echo oops >&2; exit 3"]);
    expect({ code, out, err }).toEqual({ code: 3, out: "hi\n", err: "oops\n" });
    expect(t.engine.containers.get(id).state).toMatchObject({ status: "exited", exitCode: 3, reason: "exited 3", pid: 0, error: "" });
  });

  // The plan of the second is made of the first one's.
  test.each(["the first of its kind", "one like it"])("inside: pid 1, its own hostname, files of the engine, nothing of the host: %s", async () => {
    const { id, out } = await t.run([
      "sh",
      "-c",
      "echo $$; hostname; cat /etc/hostname; grep localhost /etc/hosts | head -n 1; test -s /etc/resolv.conf && echo resolv; ls /proc | grep -c '^[0-9]'; id -u; pwd; ls /sys/class/net; env | sort | grep -v SHLVL",
    ]);
    const short = id.slice(0, 12);
    const [pid, name, file, hosts, resolv, processes, uid, cwd, lo, ...env] = out.trim().split("\n");
    expect({ pid, name, file, hosts, resolv, uid, cwd, lo }).toEqual({
      pid: "1",
      name: short,
      file: short,
      hosts: "127.0.0.1\tlocalhost",
      resolv: "resolv",
      uid: "0",
      cwd: "/",
      lo: "lo",
    });
    expect(Number(processes)).toBeLessThan(5);
    expect(env).toEqual(expect.arrayContaining(["HOME=/root", `HOSTNAME=${short}`]));
  });

  test("user, group, workdir, environment, labels and hostname are the request's", async () => {
    const { out } = await t.run(
      ["sh", "-c", "id -u; id -g; id -G; pwd; echo $X; hostname"],
      { User: "www-data:users", WorkingDir: "/made/up", Env: ["X=y z"], Hostname: "web" },
      { GroupAdd: ["tty", "4242"] },
    );
    expect(out).toBe("33\n100\n100 5 4242\n/made/up\ny z\nweb\n");
    await expect(t.start(["true"], { User: "nobody-here" })).rejects.toThrow("unable to find user nobody-here: no matching entries in passwd file");
  });

  test("a program that cannot be started: docker's words, code and state", async () => {
    for (const [program, code, text] of [
      ["nope", 127, 'exec: "nope": executable file not found in $PATH'],
      ["nope", 127, 'exec: "nope": executable file not found in $PATH'], // one like it has been planned
      ["/etc", 126, "permission denied"],
      ["/no/such", 127, "no such file or directory"],
    ] as const) {
      const id = await t.create([program]);
      await expect(t.engine.containers.start(id)).rejects.toMatchObject({
        code: "invalid",
        message: expect.stringContaining(text),
        details: { exitCode: code },
      });
      expect(t.engine.containers.get(id).state).toMatchObject({ status: "created", exitCode: code, error: expect.stringContaining(text) });
      expect(await t.engine.containers.wait(id, "not-running")).toMatchObject({ exitCode: code });
    }
    const id = (await t.engine.containers.create(t.request("busybox", ["nope"], {}, { AutoRemove: true }))).id;
    const removed = t.engine.containers.wait(id, "removed");
    await expect(t.engine.containers.start(id)).rejects.toThrow("executable file not found");
    expect(await removed).toEqual({ exitCode: 127 });
    expect(() => t.engine.containers.get(id)).toThrow(`No such container: ${id}`);
  });

  test("names: taken, freed, generated, found by prefix", async () => {
    const id = await t.create(["true"], {}, {}, "first");
    await expect(t.create(["true"], {}, {}, "first")).rejects.toMatchObject({
      code: "conflict",
      message: `Conflict. The container name "/first" is already in use by container "${id}". You have to remove (or rename) that container to be able to reuse that name.`,
    });
    await expect(t.create(["true"], {}, {}, "a/b")).rejects.toMatchObject({
      code: "invalid",
      message: "Invalid container name (a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
    });
    const other = await t.create(["true"]);
    expect(t.engine.containers.get(other).name).toMatch(/^[a-z]+_[a-z]+$/);
    expect(t.engine.containers.get(id.slice(0, 10)).id).toBe(id);
    expect(t.engine.containers.get("/first").id).toBe(id);
    await t.engine.containers.rename("first", "second");
    expect(() => t.engine.containers.get("first")).toThrow("No such container: first");
    await t.create(["true"], {}, {}, "first");
    await expect(t.engine.containers.rename("second", "first")).rejects.toMatchObject({ code: "conflict" });
    await expect(t.engine.containers.rename("second", "second")).rejects.toThrow("Renaming a container with the same name as its current name");
  });

  test("refusals of create leave nothing", async () => {
    await expect(t.engine.containers.create(t.request("nope/nothing", ["x"]))).rejects.toMatchObject({
      code: "not-found",
      message: "No such image: nope/nothing:latest",
    });
    await expect(t.create([], { Entrypoint: [""] })).rejects.toThrow("No command specified");
    await expect(t.create(["true"], {}, { Memory: 1024 })).rejects.toThrow("Minimum memory limit allowed is 6MB");
    await expect(t.create(["true"], {}, { NanoCpus: 1e12 })).rejects.toThrow("Range of CPUs is from 0.01 to");
    await expect(t.create(["true"], {}, { CapAdd: ["FLY"] })).rejects.toMatchObject({ code: "invalid" });
    await expect(t.create(["true"], {}, { Mounts: [{ Type: "bind", Source: "/no/such/dir", Target: "/x" }] })).rejects.toThrow(
      'invalid mount config for type "bind": bind source path does not exist: /no/such/dir',
    );
    await expect(t.create(["true"], {}, { AutoRemove: true, RestartPolicy: { Name: "always", MaximumRetryCount: 0 } })).rejects.toThrow(
      "can't create 'AutoRemove' container with restart policy",
    );
    expect(await t.leftovers()).toEqual([]);
  });

  test("stop sends the stop signal, then SIGKILL; kill says what it did", async () => {
    const startTrap = async (signal: string, config = {}) => {
      const id = await t.start(["sh", "-c", `trap 'exit 42' ${signal}; echo set; while :; do sleep 0.05; done`], config);
      await until(async () => (await t.logs(id)).out.includes("set"), 20_000);
      return id;
    };
    const polite = await startTrap("TERM");
    await t.engine.containers.stop(polite, { timeout: 60 });
    expect(t.engine.containers.get(polite).state).toMatchObject({ exitCode: 42, reason: "exited 42 after wherry stop" });
    await expect(t.engine.containers.stop(polite)).rejects.toMatchObject({ code: "not-modified" });
    const deaf = await t.start(["sleep", "100"]);
    const from = performance.now();
    await t.engine.containers.stop(deaf, { timeout: 1 });
    expect(performance.now() - from).toBeGreaterThan(900);
    expect(t.engine.containers.get(deaf).state).toMatchObject({ exitCode: 137, reason: "killed by SIGKILL (wherry stop, after its timeout)" });
    const killed = await t.start(["sleep", "100"]);
    await t.engine.containers.kill(killed, "SIGKILL");
    expect(t.engine.containers.get(killed).state).toMatchObject({ exitCode: 137, reason: "killed by SIGKILL (wherry kill)", oomKilled: false });
    await expect(t.engine.containers.kill(killed, "KILL")).rejects.toMatchObject({
      code: "conflict",
      message: `cannot kill container: ${killed}: container ${killed} is not running`,
    });
    await expect(t.engine.containers.kill(killed, "NOPE")).rejects.toThrow("invalid signal: NOPE");
    const own = await startTrap("INT", { StopSignal: "SIGINT" });
    await t.engine.containers.stop(own, { timeout: 60 });
    expect(t.engine.containers.get(own).state.exitCode).toBe(42);
  });

  test("start again: the writable layer stays, the log grows", async () => {
    const { id } = await t.run(["sh", "-c", "test -e /seen && echo again || { touch /seen; rm /etc/shadow; echo first; }"]);
    const ended = t.engine.containers.wait(id, "next-exit");
    await t.engine.containers.start(id);
    await ended;
    expect((await t.logs(id)).out).toBe("first\nagain\n");
    // As testcontainers waits for a line of a restarted container.
    const sinceNs = parseRfc3339Nano(t.engine.containers.get(id).state.startedAt);
    expect((await t.logs(id, { sinceNs })).out).toBe("again\n");
    expect(await t.engine.containers.changes(id)).toEqual(
      expect.arrayContaining([
        { kind: "delete", path: "/etc/shadow" },
        { kind: "add", path: "/seen" },
      ]),
    );
    await expect(t.run(["cat", "/etc/shadow"])).resolves.toMatchObject({ code: 0 });
  });

  test("attach before start loses nothing, both ways", async () => {
    const id = await t.create(["sh", "-c", "echo begin; cat; echo end >&2"], { OpenStdin: true, StdinOnce: true, AttachStdin: true });
    const { stream, framed } = await t.engine.containers.attach(id, {
      stdin: true,
      stdout: true,
      stderr: true,
      stream: true,
      logs: false,
      detachKeys: new Uint8Array(),
    });
    expect(framed).toBe(true);
    const ended = t.engine.containers.wait(id, "next-exit");
    const big = "x".repeat(300_000);
    stream.end(`${big}\n`);
    const text = readAll(stream, framed);
    await t.engine.containers.start(id);
    expect(await text).toBe(`begin\n${big}\nend\n`);
    expect(await ended).toEqual({ exitCode: 0 });
  });

  test("attach to one that runs, with what it has said before", async () => {
    const id = await t.start(["sh", "-c", "echo one; read x; echo two $x"], { OpenStdin: true });
    await until(async () => (await t.logs(id)).out === "one\n");
    const { stream, framed } = await t.engine.containers.attach(id, {
      stdin: true,
      stdout: true,
      stderr: true,
      stream: true,
      logs: true,
      detachKeys: new Uint8Array(),
    });
    stream.write("go\n");
    expect(await readAll(stream, framed)).toBe("one\ntwo go\n");
  });

  test("a terminal: its size, its echo", async () => {
    const id = await t.create(["sh", "-c", "stty size; read x; stty size; echo got $x"], { Tty: true, OpenStdin: true }, { ConsoleSize: [33, 111] });
    const { stream, framed } = await t.engine.containers.attach(id, {
      stdin: true,
      stdout: true,
      stderr: true,
      stream: true,
      logs: false,
      detachKeys: new Uint8Array(),
    });
    expect(framed).toBe(false);
    let text = "";
    stream.on("data", (chunk: Buffer) => (text += chunk.toString()));
    const ended = t.engine.containers.wait(id, "next-exit");
    await t.engine.containers.start(id);
    await until(() => text === "33 111\r\n");
    await t.engine.containers.resize(id, 40, 120);
    stream.write("it\n");
    await ended;
    await until(() => text === "33 111\r\nit\r\n40 120\r\ngot it\r\n");
  });

  test("exec: output, code, user, environment, and what it is told when it cannot", async () => {
    const id = await t.start(["sleep", "100"], { Env: ["FROM=container"], WorkingDir: "/tmp" });
    expect(await t.exec(id, ["sh", "-c", "echo $FROM $MORE; pwd; id -u; echo $HOME; exit 5"], { Env: ["MORE=exec"] })).toEqual({
      code: 5,
      out: "container exec\n/tmp\n0\n/root\n",
    });
    expect(await t.exec(id, ["sh", "-c", "id -u; id -g; pwd; grep CapEff /proc/self/status"], { User: "33", WorkingDir: "/var" })).toEqual({
      code: 0,
      out: "33\n33\n/var\nCapEff:\t0000000000000000\n",
    });
    expect((await t.exec(id, ["ps"])).out).toContain("sleep 100");
    const missing = await t.exec(id, ["nope"]);
    expect(missing).toEqual({
      code: 127,
      out: 'OCI runtime exec failed: exec failed: unable to start container process: exec: "nope": executable file not found in $PATH: unknown\r\n',
    });
    // The caps of the container, and all of them with --privileged.
    const caps = async (privileged: boolean) => (await t.exec(id, ["grep", "CapEff", "/proc/self/status"], { Privileged: privileged })).out;
    expect(await caps(false)).toBe("CapEff:\t00000000a80425fb\n");
    expect(await caps(true)).not.toBe(await caps(false));
    await t.engine.containers.kill(id, "KILL");
    await expect(t.exec(id, ["true"])).rejects.toMatchObject({ code: "conflict", message: `container ${id} is not running` });
  });

  test("exec in a container that may have few descriptors", async () => {
    const id = await t.start(["sleep", "100"], {}, { Ulimits: [{ Name: "nofile", Soft: 20, Hard: 20 }] });
    expect(await t.exec(id, ["sh", "-c", "ulimit -n; ls /proc/self/fd | wc -l"])).toEqual({ code: 0, out: "20\n4\n" });
  });

  test("an exec like one before is the same in what is asked, and new in what has changed", async () => {
    const id = await t.start(["sleep", "100"]);
    const who = ["sh", "-c", "id -u; echo $HOME $X; ls -di /proc/1/ns/uts; echo $PPID"];
    const ask = async (config = {}) => (await t.exec(id, who, config)).out.split("\n");
    const first = await ask({ User: "www-data", Env: ["X=1"] });
    expect(first.slice(0, 2)).toEqual(["33", "/var/www 1"]);
    expect(await ask({ User: "www-data", Env: ["X=1"] })).toEqual(first);
    expect((await ask({ User: "www-data", Env: ["X=2"] }))[1]).toBe("/var/www 2");
    expect((await ask({ Env: ["X=1"] })).slice(0, 2)).toEqual(["0", "/root 1"]);
    await t.exec(id, ["sed", "-i", "s/^www-data:.*/www-data:x:44:44::\\/else:\\/bin\\/sh/", "/etc/passwd"]);
    expect((await ask({ User: "www-data", Env: ["X=1"] })).slice(0, 2)).toEqual(["44", "/else 1"]);
    await t.engine.containers.restart(id, { timeout: 0 });
    expect((await ask({ Env: ["X=1"] })).slice(0, 2)).toEqual(["0", "/root 1"]);
    await expect(t.exec(id, ["nope"])).resolves.toMatchObject({ code: 127 });
    await expect(t.exec(id, ["nope"])).resolves.toMatchObject({ code: 127, out: expect.stringContaining('exec: "nope": executable file not found') });
  });

  test("exec sees a user that was added while it ran", async () => {
    const id = await t.start(["sleep", "100"]);
    expect((await t.exec(id, ["id", "-u"], { User: "www-data" })).out).toBe("33\n");
    await t.exec(id, ["sh", "-c", "echo 'late:x:777:777::/late:/bin/sh' >> /etc/passwd"]);
    expect((await t.exec(id, ["sh", "-c", "id -u; echo $HOME"], { User: "late" })).out).toBe("777\n/late\n");
  });

  test("pause stops the clock of a container; remove wants force", async () => {
    const id = await t.start(["sh", "-c", "while :; do echo tick; sleep 0.02; done"]);
    await until(async () => (await t.logs(id)).out.length > 10);
    await t.engine.containers.pause(id);
    await expect(t.engine.containers.pause(id)).rejects.toMatchObject({ code: "conflict" });
    // What it has said before may still be on its way to the log; after that nothing comes.
    let length = 0;
    await until(async () => {
      ({ length } = (await t.logs(id)).out);
      await new Promise((resolve) => setTimeout(resolve, 150));
      return (await t.logs(id)).out.length === length;
    });
    await expect(t.engine.containers.remove(id, { force: false, volumes: false })).rejects.toMatchObject({
      code: "conflict",
      message: expect.stringContaining("container is paused and must be unpaused first"),
    });
    await t.engine.containers.unpause(id);
    await until(async () => (await t.logs(id)).out.length > length + 10);
    const { name } = t.engine.containers.get(id);
    await expect(t.engine.containers.remove(id, { force: false, volumes: false })).rejects.toMatchObject({
      code: "conflict",
      message: `cannot remove container "/${name}": container is running: stop the container before removing or force remove`,
    });
    await t.engine.containers.pause(id);
    await t.engine.containers.remove(id, { force: true, volumes: false });
    expect(await t.leftovers()).toEqual([]);
  });

  test("a process that ran out of memory is told of while the container goes on, once, and inspect knows", async () => {
    const events: string[] = [];
    const stop = new AbortController();
    const reading = (async () => {
      for await (const { Type, Action } of t.engine.system.events({ sinceNs: undefined, untilNs: undefined, filters: {}, signal: stop.signal }))
        if (Type === "container") events.push(Action);
    })();
    const script = "head -c 300m /dev/zero | tail -c 299m >/dev/null; echo survived; exec sleep 600";
    const id = await t.start(["sh", "-c", script], {}, { Memory: 24 << 20, MemorySwap: 24 << 20 });
    await until(() => t.engine.containers.get(id).state.oomKilled, 30_000);
    expect(t.engine.containers.get(id).state.status).toBe("running");
    await t.engine.containers.remove(id, { force: true, volumes: true });
    await until(() => events.includes("destroy"));
    stop.abort();
    await reading.catch(() => undefined);
    expect(events.filter((action) => action === "oom").length).toBeGreaterThan(0);
    expect(events.indexOf("oom")).toBeLessThan(events.indexOf("die"));
    expect(events.slice(events.indexOf("die"))).not.toContain("oom");
  });

  const pressure = facts.cgroup.mode === "v2" && existsSync("/proc/pressure/memory");
  test.runIf(pressure)("a container whose processes wait for memory is told of, with how much of their time that takes", async () => {
    const told: Record<string, string>[] = [];
    const stop = new AbortController();
    const reading = (async () => {
      for await (const { Action, Actor } of t.engine.system.events({ sinceNs: undefined, untilNs: undefined, filters: {}, signal: stop.signal }))
        if (Action === "pressure") told.push(Actor.Attributes);
    })();
    // Beyond memory.high processes are slowed down, and not killed.
    const id = await t.start(
      ["sh", "-c", "while :; do head -c 60m /dev/zero | tail -c 50m >/dev/null; done"],
      {},
      { WherryUnified: { "memory.high": "8388608" } },
    );
    await until(() => told.length > 0, 60_000);
    expect(told[0]).toMatchObject({ resource: "memory", some: expect.stringMatching(/^[\d.]+$/), full: expect.stringMatching(/^[\d.]+$/) });
    await t.engine.containers.remove(id, { force: true, volumes: true });
    stop.abort();
    await reading.catch(() => undefined);
  });

  test("limits: out of memory is told with its limit, update takes hold while it runs", async () => {
    const { id, code, reason } = await t.run(["sh", "-c", "x=$(head -c 100m /dev/zero | tr '\\0' x); echo $x | wc -c"], {}, { Memory: 24 * 2 ** 20 });
    expect([code, reason]).toEqual([137, "out of memory: limit 24 MiB, used 24 MiB"]);
    expect(t.engine.containers.get(id).state).toMatchObject({ oomKilled: true, reason: "out of memory: limit 24 MiB, used 24 MiB" });
    const live = await t.start(["sleep", "100"], {}, { Memory: 64 * 2 ** 20 });
    const limit = async () => (await t.engine.containers.stats(live))?.memory.limit;
    expect(await limit()).toBe(64 * 2 ** 20);
    await t.engine.containers.update(
      live,
      { Memory: 128 * 2 ** 20, MemorySwap: 256 * 2 ** 20, PidsLimit: 30, NanoCpus: 5e8 },
      { Name: "on-failure", MaximumRetryCount: 2 },
    );
    expect(await limit()).toBe(128 * 2 ** 20);
    expect((await t.engine.containers.stats(live))?.pids.limit).toBe(30);
    expect(t.engine.containers.get(live).hostConfig).toMatchObject({
      Memory: 128 * 2 ** 20,
      NanoCpus: 5e8,
      RestartPolicy: { Name: "on-failure", MaximumRetryCount: 2 },
    });
    await expect(t.engine.containers.update(live, { CpuPeriod: 100_000 }, undefined)).rejects.toThrow(
      "CPU Period cannot be updated as NanoCPUs has already been set",
    );
  });

  test("--rm: whoever waits for the removal gets the code, and nothing is left", async () => {
    const id = await t.create(["sh", "-c", "exit 9"], { Volumes: { "/v": {} } }, { AutoRemove: true });
    const removed = t.engine.containers.wait(id, "removed");
    const next = t.engine.containers.wait(id, "next-exit");
    await t.engine.containers.start(id);
    expect(await removed).toEqual({ exitCode: 9 });
    expect(await next).toEqual({ exitCode: 9 });
    expect(() => t.engine.containers.get(id)).toThrow("No such container");
    expect(t.engine.volumes.list({})).toEqual([]);
    expect(await t.leftovers()).toEqual([]);
  });

  test("a container starts again at once, with what its last run has written and a cgroup anew", async () => {
    const id = await t.create(["sh", "-c", "echo x >> /runs; cat /runs | wc -l; sleep 0.2"], {}, { Memory: 64 * 2 ** 20 });
    const cgroups = ["", ...readdirSync("/sys/fs/cgroup")].map((hierarchy) => join("/sys/fs/cgroup", hierarchy, t.options.cgroupParent!, id));
    for (let run = 1; run <= 10; run++) {
      const ended = t.engine.containers.wait(id, "next-exit");
      await t.engine.containers.start(id);
      expect(cgroups.some((directory) => existsSync(directory))).toBe(true);
      expect(await ended).toEqual({ exitCode: 0 });
      expect((await t.logs(id)).out).toBe(Array.from({ length: run }, (_, i) => `${i + 1}\n`).join(""));
    }
    await until(() => cgroups.every((directory) => !existsSync(directory)));
    await t.engine.containers.remove(id, { force: false, volumes: false });
    expect(await t.leftovers()).toEqual([]);
  });

  test("restart policies: on-failure counts, always goes on until somebody stops it", async () => {
    const failing = await t.start(["sh", "-c", "echo x; exit 1"], {}, { RestartPolicy: { Name: "on-failure", MaximumRetryCount: 2 } });
    await until(() => t.engine.containers.get(failing).restartCount === 2 && t.engine.containers.get(failing).state.status === "exited");
    expect((await t.logs(failing)).out).toBe("x\nx\nx\n");
    const always = await t.start(["true"], {}, { RestartPolicy: { Name: "always", MaximumRetryCount: 0 } });
    await until(() => t.engine.containers.get(always).restartCount >= 2);
    await until(() => t.engine.containers.get(always).state.status === "restarting");
    await expect(t.engine.containers.remove(always, { force: false, volumes: false })).rejects.toMatchObject({
      code: "conflict",
      message: expect.stringContaining("container is restarting: stop the container before removing or force remove"),
    });
    await t.engine.containers.stop(always);
    expect(t.engine.containers.get(always).state.status).toBe("exited");
  });

  test("volumes: copied up once, shared, kept by name, anonymous ones go with -v", async () => {
    const share = { Binds: ["named:/etc"] };
    const first = await t.run(["sh", "-c", "ls -ln /etc/shadow /etc/passwd; echo mine > /etc/own"], {}, share);
    expect(first.out).toMatch(/^-rw-------.* 0 +0 .*\/etc\/shadow\n-rw-r--r--/m.source.length > 0 ? /\/etc\/shadow/ : /x/);
    expect((await t.run(["cat", "/etc/own"], {}, { Binds: ["named:/other:ro"] })).code).toBe(1);
    expect((await t.run(["sh", "-c", "cat /other/own; touch /other/x"], {}, { Binds: ["named:/other:ro"] })).out).toBe("mine\n");
    const anonymous = await t.create(["true"], { Volumes: { "/data": {} } });
    expect(t.engine.containers.get(anonymous).mounts).toMatchObject([{ Type: "volume", Destination: "/data", RW: true, Driver: "local" }]);
    expect(t.engine.volumes.list({})).toHaveLength(2);
    await expect(t.engine.volumes.remove("named", false)).rejects.toMatchObject({
      code: "conflict",
      message: expect.stringContaining("remove named: volume is in use - ["),
    });
    await t.removeAll();
    expect(t.engine.volumes.list({}).map((v) => v.Name)).toEqual(["named"]);
    await t.engine.volumes.remove("named", false);
  });

  test("binds: made when missing, read-only when asked, files too; tmpfs; volumes-from", async () => {
    const dir = join(t.root, "bound");
    mkdirSync(dir);
    writeFileSync(join(dir, "file"), "content\n");
    const from = await t.run(
      ["sh", "-c", "cat /b/file /f; touch /b/new 2>/dev/null || echo ro; df /t | tail -n 1 | cut -d' ' -f1; touch /made/x"],
      {},
      { Binds: [`${dir}:/b:ro`, `${join(dir, "file")}:/f`, `${join(t.root, "made")}:/made`], Tmpfs: { "/t": "size=1m" } },
    );
    expect(from.out).toBe("content\ncontent\nro\ntmpfs\n");
    expect(existsSync(join(t.root, "made/x"))).toBe(true);
    expect((await t.run(["cat", "/b/file"], {}, { VolumesFrom: [from.id] })).out).toBe("content\n");
  });

  test("--rootfs: a directory of the host is the root", async () => {
    const root = join(t.root, "tree");
    for (const d of ["bin", "proc", "sys", "dev", "etc"]) mkdirSync(join(root, d), { recursive: true });
    writeFileSync(join(root, "bin/busybox"), readFileSync("/bin/busybox"), { mode: 0o755 });
    const { out } = await t.run(["/bin/busybox", "sh", "-c", "/bin/busybox ls /; echo ok > /written"], {}, { WherryRootfs: root });
    expect(out.split("\n")).toEqual(expect.arrayContaining(["bin", "proc"]));
    expect(readFileSync(join(root, "written"), "utf8")).toBe("ok\n");
  });

  test("container:X: one process sees the other's network, and ipc, and processes", async () => {
    const first = await t.start(["sleep", "98"], { Hostname: "first" }, { IpcMode: "shareable" });
    const joined = await t.run(
      ["sh", "-c", "readlink /proc/self/ns/net; ps -o args | grep -c '^sleep 98'; hostname"],
      {},
      { NetworkMode: `container:${first}`, PidMode: `container:${first}`, IpcMode: `container:${first}` },
    );
    const net = (await t.exec(first, ["readlink", "/proc/self/ns/net"])).out;
    expect(joined.out).toBe(`${net}1\nfirst\n`);
    await t.engine.containers.kill(first, "KILL");
    await expect(t.start(["true"], {}, { NetworkMode: `container:${first}` })).rejects.toMatchObject({
      code: "conflict",
      message: expect.stringContaining("non running container"),
    });
  });

  test("top, stats, list with filters", async () => {
    const id = await t.start(["sleep", "97"], { Labels: { tier: "front" } }, {}, "topped");
    const top = await t.engine.containers.top(id, "");
    expect(top.Titles).toEqual(["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    expect(top.Processes.map((p) => p.at(-1))).toEqual(["sleep 97"]);
    expect((await t.engine.containers.top(id, "-o pid,comm=NAME")).Titles).toEqual(["PID", "NAME"]);
    expect(await t.engine.containers.stats(id)).toMatchObject({ pids: { current: 1 }, networks: {} });
    const names = (filters: Record<string, string[]>, all = false) => t.engine.containers.list({ all, limit: undefined, filters }).map((c) => c.name);
    const ended = await t.run(["sh", "-c", "exit 4"], { Labels: { tier: "back" } });
    const endedName = t.engine.containers.get(ended.id).name;
    expect(names({})).toEqual(["topped"]);
    expect(names({ label: ["tier=front"] })).toEqual(["topped"]);
    expect(names({ label: ["tier"] }, true)).toEqual([endedName, "topped"]);
    expect(names({ exited: ["4"] })).toEqual([endedName]);
    expect(names({ ancestor: ["busybox"] })).toEqual(["topped"]);
    expect(names({ name: ["^top"] })).toEqual(["topped"]);
    expect(names({ since: ["topped"] })).toEqual([endedName]);
    expect(names({ status: ["exited"], label: ["tier=front"] })).toEqual([]);
    expect(() => names({ status: ["asleep"] })).toThrow("invalid filter 'status=asleep'");
  });

  test("commit makes an image that runs, with its history", async () => {
    const { id } = await t.run(["sh", "-c", "echo made > /made; rm -r /var/www"]);
    const image = await t.engine.containers.commit(id, {
      reference: "committed:v1",
      comment: "why",
      author: "me",
      pause: true,
      changes: { Cmd: ["cat", "/made"], Entrypoint: null },
    });
    expect((await t.engine.images.get("committed:v1")).id).toBe(image);
    const made = await t.engine.images.get(image);
    expect(made.config).toMatchObject({ author: "me", comment: "why", config: { Cmd: ["cat", "/made"] } });
    const created = await t.engine.containers.create(t.request("committed:v1", []));
    const ended = t.engine.containers.wait(created.id, "next-exit");
    await t.engine.containers.start(created.id);
    expect(await ended).toEqual({ exitCode: 0 });
    expect((await t.logs(created.id)).out).toBe("made\n");
    await t.removeAll();
    await t.engine.images.remove("committed:v1", { force: false, prune: true });
  });

  test("logs: follow ends with the container, tail and none driver", async () => {
    const id = await t.start(["sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.05; done"]);
    let text = "";
    for await (const entries of t.engine.containers.logs(id, {
      stdout: true,
      stderr: true,
      follow: true,
      tail: undefined,
      sinceNs: undefined,
      untilNs: undefined,
    }))
      for (const { log } of entries) text += Buffer.from(log).toString();
    expect(text).toBe("1\n2\n3\n4\n5\n");
    const silent = await t.run(["echo", "x"], {}, { LogConfig: { Type: "none", Config: {} } }).catch((error: Error) => error);
    expect(silent).toMatchObject({ code: "unsupported", message: "configured logging driver does not support reading" });
  });

  test("rotated logs are read as one", async () => {
    const { out } = await t.run(
      ["sh", "-c", "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done"],
      {},
      { LogConfig: { Type: "json-file", Config: { "max-size": "100k", "max-file": "20" } } },
    );
    expect(out).toBe(Array.from({ length: 3000 }, (_, i) => `line ${i}\n`).join(""));
  });

  test("events tell the whole story, in order", async () => {
    const leave = new AbortController();
    const seen: EngineEvent[] = [];
    const reading = (async () => {
      for await (const event of t.engine.system.events({ sinceNs: undefined, untilNs: undefined, filters: { type: ["container"] }, signal: leave.signal }))
        seen.push(event);
    })();
    const { id } = await t.run(["sh", "-c", "exit 2"], { Labels: { a: "b" } });
    await t.engine.containers.remove(id, { force: false, volumes: false });
    await until(() => seen.some((e) => e.Action === "destroy"));
    leave.abort();
    await reading;
    expect(seen.filter((e) => e.Actor.ID === id).map((e) => e.Action)).toEqual(["create", "start", "die", "destroy"]);
    expect(seen.find((e) => e.Action === "die")?.Actor.Attributes).toMatchObject({ exitCode: "2", execDuration: "0", image: "busybox", a: "b" });
  });

  test("explain prints the plan and makes nothing", async () => {
    const text = await t.engine.containers.explain(t.request("busybox", ["true"], {}, { Memory: 64 * 2 ** 20 }), "text");
    expect(text).toContain("clone");
    expect(text).toContain("pivot_root");
    expect(JSON.parse(await t.engine.containers.explain(t.request("busybox", ["true"]), "json"))).toMatchObject({ version: 1 });
    expect(await t.leftovers()).toEqual([]);
  });

  test("info and disk usage", async () => {
    await t.start(["sleep", "50"]);
    const { id } = await t.run(["sh", "-c", "head -c 100000 /dev/zero > /big"]);
    expect(await t.engine.system.info()).toMatchObject({
      containers: { total: 2, running: 1, paused: 0, stopped: 1 },
      images: 1,
      driver: "overlay2",
      rootDir: t.options.dataRoot,
    });
    const usage = await t.engine.system.diskUsage();
    expect(usage.containers[id]?.rw).toBeGreaterThanOrEqual(100_000);
    expect(usage.layersBytes).toBeGreaterThan(1_000_000);
    expect((await t.engine.containers.prune({})).deleted).toEqual([id]);
  });
});
