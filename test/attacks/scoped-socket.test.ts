/**
 * A socket with limited rights in the hands of who wants more: other paths and versions, other people's objects, containers that reach the host. And of who
 * does not: docker's client works with it, also within a container.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasProgram, httpCall, type Reply, TestDaemon, wherryPath, whyNot } from "../compat/daemon.ts";
import { busyboxArchive, dockerClientTree, writeArchive } from "../compat/images.ts";
import { rawConnection } from "../compat/raw.ts";
import { eventually, ok, type Result, run } from "../compat/run.ts";

const reason = whyNot() ?? (hasProgram("docker") ? undefined : "no docker client");
if (reason) console.warn(`scoped sockets: skipped: ${reason}`);

describe.skipIf(reason !== undefined)(`scoped sockets${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const daemon = new TestDaemon();
  const work = mkdtempSync(join(tmpdir(), "wt-scope-"));
  const team = join(work, "team.sock");
  const reader = join(work, "reader.sock");
  const docker = (socket: string, ...args: string[]): Promise<Result> => run(["docker", ...args], { env: { DOCKER_HOST: `unix://${socket}` } });
  const root = (...args: string[]): Promise<string> => ok(["docker", ...args], { env: { DOCKER_HOST: daemon.host } });
  const wherry = (...args: string[]): Promise<string> => ok([wherryPath, ...args], { env: { WHERRY_HOST: daemon.host } });
  const call = (method: string, path: string, body?: unknown): Promise<Reply> => httpCall(team, method, path, body);
  let foreign: string;

  beforeAll(async () => {
    await daemon.start();
    await root("load", "-q", "-i", busyboxArchive(work).path);
    await wherry("socket", "create", "team", "--allow", "containers,images,volumes,networks,events,build", "--label", "team=x", "--path", team);
    await wherry("socket", "create", "reader", "--allow", "containers:read,events", "--path", reader, "--mode", "600");
    foreign = await root("run", "-d", "--name", "foreign", "-v", "foreign-v:/v", "--label", "team=y", "busybox", "sleep", "1000");
    await root("network", "create", "foreign-n");
  });
  afterAll(async () => {
    await wherry("socket", "rm", "team", "reader");
    expect([existsSync(team), existsSync(reader)]).toEqual([false, false]);
    expect(await daemon.stop()).toEqual([]);
    rmSync(work, { recursive: true, force: true });
  });

  test("docker's client works within its scope: what it makes is labelled, what it lists is its own", async () => {
    expect(statSync(team).mode & 0o777).toBe(0o660);
    expect(statSync(reader).mode & 0o777).toBe(0o600);
    expect(await docker(team, "run", "--name", "mine", "-d", "-v", "mine-v:/v", "-p", "127.0.0.1::80", "busybox", "sleep", "1000")).toMatchObject({ code: 0 });
    expect((await docker(team, "run", "--rm", "busybox", "echo", "hi")).stdout).toBe("hi\n");
    expect((await docker(team, "exec", "mine", "hostname")).code).toBe(0);
    expect((await docker(team, "network", "create", "mine-n")).code).toBe(0);
    expect((await docker(team, "ps", "-a", "--format", '{{.Names}} {{.Label "team"}}')).stdout).toBe("mine x\n");
    expect((await docker(team, "volume", "ls", "-q")).stdout).toBe("mine-v\n");
    expect((await docker(team, "network", "ls", "--format", "{{.Name}}")).stdout).not.toContain("foreign-n");
    expect(await root("volume", "inspect", "-f", "{{.Labels.team}}", "mine-v")).toBe("x");
    expect(await root("network", "inspect", "-f", "{{.Labels.team}}", "mine-n")).toBe("x");
    expect((await docker(reader, "ps", "-a", "--format", "{{.Names}}")).stdout.split("\n").sort()).toEqual(["", "foreign", "mine"]);
    expect((await docker(reader, "rm", "-f", "mine")).stderr).toContain("this socket does not allow containers:write");
    expect(JSON.parse(await wherry("socket", "ls", "--format", "{{json .}}").then((text) => text.split("\n")[0]!))).toMatchObject({ Name: "team", Path: team });
  });

  test("other people's objects are not there, by name, id, prefix or any path", async () => {
    for (const name of ["foreign", foreign, foreign.slice(0, 12), "%66oreign", "/foreign"]) {
      for (const prefix of ["", "/v1.24", "/v1.51"]) {
        for (const [method, path] of [
          ["GET", "json"],
          ["GET", "logs?stdout=1"],
          ["GET", "top"],
          ["GET", "stats?stream=0"],
          ["GET", "archive?path=/etc/passwd"],
          ["GET", "export"],
          ["POST", "kill"],
          ["POST", "stop"],
          ["POST", "wait"],
          ["POST", "exec"],
          ["POST", "rename?name=taken"],
          ["POST", "update"],
          ["POST", "attach?stream=1"],
          ["DELETE", ""],
        ] as const) {
          const reply = await call(method, `${prefix}/containers/${name}/${path}`.replace(/\/$/, ""), method === "POST" ? { Cmd: ["id"] } : undefined);
          expect([reply.status, reply.text], `${method} ${prefix} ${name} ${path}`).toEqual([404, expect.stringMatching(/No such container|page not found/)]);
        }
      }
    }
    for (const path of ["/volumes/foreign-v", "/networks/foreign-n", "/wherry/volumes/foreign-v/export"])
      expect((await call("GET", path)).status, path).toBe(404);
    for (const path of ["/volumes/foreign-v", "/networks/foreign-n"]) expect((await call("DELETE", path)).status, path).toBe(404);
    // An exec that somebody else has made.
    const { Id } = (await daemon.api("POST", `/containers/${foreign}/exec`, { Cmd: ["id"], AttachStdout: true })).json<{ Id: string }>();
    for (const [method, path] of [
      ["GET", `/exec/${Id}/json`],
      ["POST", `/exec/${Id}/start`],
      ["POST", `/exec/${Id}/resize?h=1&w=1`],
      ["POST", `/wherry/exec/${Id}/wait`],
    ] as const)
      expect((await call(method, path, method === "POST" ? {} : undefined)).status, path).toBe(404);
    expect((await call("GET", "/containers/json?all=1")).text).not.toContain(foreign);
    expect((await call("GET", '/containers/json?all=1&filters={"label":["team=y"]}')).json()).toEqual([]);
    expect(await root("inspect", "-f", "{{.State.Running}} {{.Name}}", "foreign")).toBe("true /foreign");
  });

  test("a container that is made here shares nothing with the host or with others", async () => {
    for (const args of [
      ["--privileged"],
      ["-v", "/:/host"],
      ["--mount", "type=bind,src=/,dst=/host"],
      ["--mount", "type=volume,dst=/h,volume-opt=type=none,volume-opt=o=bind,volume-opt=device=/"],
      ["--pid", "host"],
      ["--ipc", "host"],
      ["--uts", "host"],
      ["--network", "host"],
      ["--userns", "host"],
      ["--cgroupns", "host"],
      ["--device", "/dev/null:/dev/x"],
      ["--cap-add", "SYS_ADMIN"],
      ["--security-opt", "seccomp=unconfined"],
      ["--security-opt", "systempaths=unconfined"],
      ["--cgroup-parent", "/"],
      ["-v", "foreign-v:/v"],
      ["--volumes-from", "foreign"],
      ["--network", "container:foreign"],
      ["--network", "foreign-n"],
      ["--pid", "container:foreign"],
      ["--link", "foreign:x"],
      ["--log-driver", "syslog"],
    ]) {
      const { code, stderr } = await docker(team, "create", ...args, "busybox", "true");
      expect([code, stderr], args.join(" ")).toEqual([1, expect.stringMatching(/does not allow|No such container|not found|has not the labels/)]);
    }
    expect((await docker(team, "exec", "--privileged", "mine", "true")).stderr).toContain("privileged exec");
    expect((await docker(team, "volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/", "escape")).code).toBe(1);
    expect((await docker(team, "volume", "create", "foreign-v")).stderr).toContain("has not the labels");
    expect((await docker(team, "network", "create", "-d", "macvlan", "escape")).code).toBe(1);
    expect((await docker(team, "network", "connect", "foreign-n", "mine")).code).toBe(1);
    // The labels are not the client's to choose.
    expect((await docker(team, "run", "-d", "--name", "liar", "--label", "team=y", "busybox", "sleep", "1000")).code).toBe(0);
    expect(await root("inspect", "-f", "{{.Config.Labels.team}}", "liar")).toBe("x");
    expect(await root("ps", "-aq", "--filter", "status=created")).toBe("");
  });

  test("images are everybody's to use and nobody's to change", async () => {
    expect((await docker(team, "rmi", "-f", "busybox")).stderr).toContain("has not the labels");
    expect((await docker(team, "commit", "mine", "busybox")).stderr).toContain("has not the labels");
    expect((await docker(team, "commit", "mine", "own-image")).code).toBe(0);
    expect((await docker(team, "tag", "own-image", "busybox:latest")).stderr).toContain("has not the labels");
    expect((await docker(team, "load", "-i", join(work, "busybox.tar"))).code).toBe(1);
    expect((await docker(team, "image", "prune", "-af")).code).toBe(0);
    expect(await root("images", "-q", "busybox")).not.toBe("");
  });

  test("a build does not leave its scope", async () => {
    const build = (...args: string[]) =>
      run(["docker", "build", ...args, "-"], {
        env: { DOCKER_HOST: `unix://${team}`, DOCKER_BUILDKIT: "0" },
        input: args.includes("--host-step") ? "" : "FROM busybox\nRUN echo built\n",
      });
    expect((await build("-t", "team-image")).stderr).not.toContain("denied");
    expect(await root("image", "inspect", "-f", "{{.Config.Labels.team}}", "team-image")).toBe("x");
    expect((await build("-t", "busybox")).code).not.toBe(0);
    expect((await build("--network", "host")).code).not.toBe(0);
    const dockerfile = "FROM busybox\nRUN --network=host true\n";
    const { stdout, stderr } = await run(["docker", "build", "--no-cache", "-"], {
      env: { DOCKER_HOST: `unix://${team}`, DOCKER_BUILDKIT: "0" },
      input: dockerfile,
    });
    expect(stdout + stderr).toContain("may not use the host's network");
  });

  test("no other way in: the owner's routes, other protocols, a hijack that is refused", async () => {
    for (const [method, path] of [
      ["POST", "/wherry/sockets"],
      ["GET", "/wherry/sockets"],
      ["DELETE", "/wherry/sockets/team"],
      ["POST", "/v1.51/wherry/sessions?id=x"],
      ["POST", "/wherry/explain"],
      ["POST", "/wherry/system/check"],
      ["POST", "/wherry/images/mounts?image=busybox"],
      ["POST", "/build/prune"],
      ["POST", "/session"],
      ["POST", "/grpc"],
      ["GET", "/info"],
      ["POST", "/auth"],
      ["GET", "/plugins"],
    ] as const)
      expect((await call(method, path, method === "POST" ? {} : undefined)).status, path).toBe(403);
    for (const path of ["//containers/json", "/v1.51//containers/json", "/./containers/json", "/x/../containers/json", "/CONTAINERS/json", "/containers/json/"])
      expect((await call("GET", path)).status, path).toBe(404);
    const raw = rawConnection(reader);
    raw.socket.write(`POST /containers/${foreign}/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n`);
    expect(await raw.ended()).toMatch(/^HTTP\/1\.1 403 /);
    const h2 = rawConnection(reader);
    h2.socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    expect(await h2.ended()).toMatch(/^(HTTP\/1\.1 40\d|$)/);
  });

  test("events of others are not told", async () => {
    const since = String(Math.floor(Date.now() / 1000) - 1);
    await root("exec", "foreign", "true");
    expect((await docker(team, "run", "--rm", "--name", "told", "busybox", "true")).code).toBe(0);
    const until = String(Math.floor(Date.now() / 1000) + 1);
    const { stdout } = await docker(team, "events", "--since", since, "--until", until, "--format", "{{json .}}");
    const events = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { Type: string; Actor: { Attributes: Record<string, string> } });
    expect(events.length).toBeGreaterThan(3);
    for (const { Type, Actor } of events) if (Type === "container") expect(Actor.Attributes).toMatchObject({ team: "x" });
    expect(stdout).not.toContain("foreign");
  });

  test("a socket works within a container, with a user namespace too, and outlives the daemon", async () => {
    const archive = writeArchive(join(work, "client.tar"), { tag: "client:latest", layers: [await dockerClientTree(join(work, "client"))] });
    await root("load", "-q", "-i", archive.path);
    const mounted = async (socket: string, ...args: string[]) =>
      wherry("run", "--rm", "--network", "none", ...args, "-v", `${socket}:/var/run/docker.sock`, "client", "docker", "ps", "--format", "{{.Names}}");
    expect(await mounted(team)).toContain("mine");
    // The engine's own too.
    expect(await mounted(daemon.socket)).toContain("foreign");
    const facts = (await daemon.api("GET", "/wherry/facts")).json<{ namespaces: string[] }>();
    if (!facts.namespaces.includes("user")) return void console.warn("not in a user namespace: this kernel has none");
    const userns = ["--userns", "auto"];
    // docker's client knows no such mode.
    const ids = /^ *0 +(\d+) /m.exec(await wherry("run", "--rm", ...userns, "busybox", "cat", "/proc/self/uid_map"))?.[1] ?? "";
    const remapped = join(work, "remapped.sock");
    await wherry("socket", "create", "remapped", "--allow", "containers:read", "--path", remapped, "--owner", ids);
    expect(await mounted(remapped, ...userns)).toContain("foreign");
    await daemon.kill("SIGKILL");
    await daemon.start();
    expect((await docker(team, "ps", "--format", "{{.Names}}")).stdout.split("\n").sort()).toEqual(["", "liar", "mine"]);
    expect((await docker(reader, "rm", "-f", "mine")).code).toBe(1);
    await wherry("socket", "rm", "remapped");
    expect(JSON.parse(readFileSync(join(daemon.dataRoot, "sockets.json"), "utf8"))).toHaveLength(2);
    await eventually(
      () => existsSync(remapped),
      (there) => !there,
    );
  });
});
