/**
 * BuildKit's wire as stock clients drive it (root): docker's buildx and compose 2, where scripts/fetch-cli-plugins.mjs or this machine has them.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, statSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { contextsIn, enginesToBuildOn } from "./building.ts";
import { cliPlugin, installPlugins } from "./cli-plugin.ts";
import { httpCall, TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { cleanEnv, eventually, ok, type Result, run } from "./run.ts";

const buildx = cliPlugin("docker-buildx");
const compose = cliPlugin("docker-compose");
const reason = whyNot() ?? (buildx === undefined ? "no docker-buildx (scripts/fetch-cli-plugins.mjs)" : undefined);
if (reason) console.warn(`buildkit: skipped: ${reason}`);

describe.skipIf(reason !== undefined)(`BuildKit's wire${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const {
    work,
    engines: [daemon],
  } = enginesToBuildOn("wt-buildkit-", [new TestDaemon()]);
  const config = join(work, "docker-config");
  const env = { DOCKER_HOST: daemon.host, DOCKER_CONFIG: config, WHERRY_HOST: daemon.host, BUILDX_NO_DEFAULT_ATTESTATIONS: "1" };

  beforeAll(() => installPlugins(config, buildx, compose));

  const context = contextsIn(work);
  const command = (...args: string[]) => [buildx!, "build", "--progress=plain", "--network=none", ...args];
  const build = (...args: string[]): Promise<Result> => run(command(...args), { env });
  const get = async <T>(path: string): Promise<T> => (await httpCall(daemon.socket, "GET", path)).json<T>();
  const wherry = (...args: string[]) => ok([wherryPath, ...args], { env });

  test("buildx knows the builder", async () => {
    const printed = await ok([buildx!, "ls"], { env });
    expect(printed).toMatch(/default.*running.*linux\/(amd64|arm64)/);
  });

  test("a Dockerfile with a syntax line becomes an image; again, from the cache; changed, only the changed file is sent", async () => {
    const folder = context({
      Dockerfile:
        '# syntax=docker/dockerfile:1\nFROM busybox AS base\nARG WHO=nobody\nRUN echo built for $WHO >/who\nFROM base\nCOPY . /app\nCMD ["cat", "/who"]\n',
      ".dockerignore": "*.log\n!kept.log\n",
      "a.txt": "a\n",
      "sub/b.txt": "b\n",
      "left.log": "out\n",
      "kept.log": "in\n",
    });
    symlinkSync("sub/b.txt", join(folder, "link"));
    const [iid, metadata] = [join(work, "iid"), join(work, "metadata")];
    const args = ["-t", "by-buildx", "--build-arg", "WHO=buildx", "--label", "who=me", "--iidfile", iid, "--metadata-file", metadata, folder];
    const first = await build(...args);
    expect(first).toMatchObject({ code: 0 });
    expect(first.stderr).toMatch(/\[base \d\/\d\] RUN echo built for \$WHO/);
    expect(first.stderr).toMatch(/naming to by-buildx/);
    const inspect = await get<{ Id: string; Config: { Labels: object } }>("/images/by-buildx/json");
    expect(readFileSync(iid, "utf8")).toBe(inspect.Id);
    expect(inspect.Config.Labels).toMatchObject({ who: "me" });
    expect(JSON.parse(readFileSync(metadata, "utf8"))).toMatchObject({ "containerimage.config.digest": inspect.Id, "image.name": "by-buildx" });
    expect(await wherry("run", "--rm", "--network=none", "by-buildx")).toBe("built for buildx");
    expect(await wherry("run", "--rm", "--network=none", "by-buildx", "sh", "-c", "cd /app; find . | sort; cat link")).toBe(
      "./.dockerignore\n./Dockerfile\n./a.txt\n./kept.log\n./link\n./sub\n./sub/b.txt\nb".replace(/^/, ".\n"),
    );

    const again = await build(...args);
    expect(again.stderr.match(/CACHED/g)).toHaveLength(2);
    // Another time alone is no other file.
    utimesSync(join(folder, "a.txt"), 1, 1);
    expect((await build(...args)).stderr.match(/CACHED/g)).toHaveLength(2);
    writeFileSync(join(folder, "sub/b.txt"), "changed\n");
    expect((await build(...args)).stderr.match(/CACHED/g)).toHaveLength(1);
    expect(await wherry("run", "--rm", "--network=none", "by-buildx", "cat", "/app/link", "/app/a.txt")).toBe("changed\na");
  });

  test("a failing step: its output, its code, the exit code 1; a Dockerfile that is missing or wrong", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nRUN echo said before; exit 7\n", Wrong: "FROM busybox\nRUNN x\n" });
    const failed = await build(folder);
    expect(failed.code).toBe(1);
    expect(failed.stderr).toMatch(/\d said before/);
    expect(failed.stderr).toContain('failed to solve: process "/bin/sh -c echo said before; exit 7" did not complete successfully: exit code: 7');
    expect(await get("/containers/json?all=1")).toEqual([]);
    expect((await build("-f", join(folder, "Nothing"), folder)).stderr).toContain("failed to read dockerfile: open Nothing: no such file or directory");
    expect((await build("-f", join(folder, "Wrong"), folder)).stderr).toMatch(/parse error on line 2: unknown instruction: RUNN/);
  });

  test("secrets reach the step and nothing else; an agent is a socket that answers", async () => {
    const agentPath = join(work, "agent.sock");
    const agent = createServer((socket) => socket.on("data", () => socket.end(Buffer.from([0, 0, 0, 5, 12, 0, 0, 0, 0]))));
    agent.listen(agentPath);
    await once(agent, "listening");
    const folder = context({
      Dockerfile: [
        "FROM busybox",
        "RUN --mount=type=secret,id=word test $(wc -c </run/secrets/word) = 11",
        "RUN --mount=type=secret,id=none test ! -e /run/secrets/none",
        "RUN --mount=type=ssh test -S $SSH_AUTH_SOCK",
        "",
      ].join("\n"),
      "../word": "hidden-word",
    });
    try {
      const built = await build("--secret", `id=word,src=${join(folder, "../word")}`, "--ssh", `default=${agentPath}`, "-t", "secretive", folder);
      expect(built).toMatchObject({ code: 0 });
      const image = JSON.stringify(await get("/images/secretive/json")) + JSON.stringify(await get("/images/secretive/history"));
      expect(image).not.toContain("hidden-word");
      const root = await run([wherryPath, "save", "secretive"], { env });
      expect(root.stdout).not.toContain("hidden-word");
    } finally {
      agent.close();
    }
  });

  test("outputs: a directory, a tar, OCI and docker archives; nothing is recorded for them", async () => {
    const folder = context({ Dockerfile: "FROM scratch\nCOPY --chmod=640 a.txt /d/a.txt\n", "a.txt": "content\n" });
    const to = (name: string) => join(work, `output-${name}`);
    const before = (await get<object[]>("/images/json?all=1")).length;
    for (const type of ["local", "tar", "oci", "docker"])
      expect(await build("-o", `type=${type},dest=${to(type)}`, "-t", `as-${type}`, folder)).toMatchObject({ code: 0 });
    expect((await get<object[]>("/images/json?all=1")).length).toBe(before);
    expect(readFileSync(join(to("local"), "d/a.txt"), "utf8")).toBe("content\n");
    expect(statSync(join(to("local"), "d/a.txt")).mode & 0o777).toBe(0o640);
    expect(await ok(["tar", "tf", to("tar")])).toMatch(/d\/a\.txt/);
    expect(await ok(["tar", "tf", to("oci")])).toMatch(/oci-layout/);
    expect(await wherry("load", "-i", to("docker"))).toContain("as-docker:latest");
  });

  test("contexts: an archive and a Dockerfile on standard input, others by name", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nCOPY a.txt /a\nCOPY --from=other b.txt /b\nRUN cat /a /b\n", "a.txt": "from a\n" });
    const other = context({ "b.txt": "from b\n" });
    const tar = spawnSync("tar", ["c", "-C", folder, "."]).stdout;
    const sent = await run(command("--build-context", `other=${other}`, "-"), { env, input: tar });
    expect(sent.stderr).toMatch(/from a\n.*from b/);
    const alone = await run(command("-"), { env, input: "FROM busybox\nRUN echo alone\n" });
    expect(alone).toMatchObject({ code: 0 });
    const image = context({ Dockerfile: "FROM named\nRUN echo on $(ls /bin/busybox)\n" });
    expect((await build("--build-context", "named=docker-image://busybox", image)).stderr).toContain("on /bin/busybox");
  });

  test("what is not done is refused with the reason", async () => {
    const folder = context({ Dockerfile: "FROM busybox\n" });
    expect((await build("--platform", "linux/amd64,linux/arm64", folder)).stderr).toContain("several platforms at once is not supported");
    expect((await build("--provenance=true", folder)).stderr).toMatch(/Attestations are not supported/);
  });

  test("a client that goes takes its build along", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nRUN echo begun; sleep 1000\n" });
    const [file = "", ...args] = command(folder);
    const child = spawn(file, args, { env: cleanEnv(env), stdio: ["ignore", "ignore", "pipe"] });
    let text = "";
    child.stderr.on("data", (data: Buffer) => (text += data.toString()));
    await eventually(
      () => text,
      (printed) => printed.includes(" begun"),
    );
    child.kill("SIGKILL");
    await eventually(
      () => get<object[]>("/containers/json?all=1"),
      (containers) => containers.length === 0,
    );
  });

  test("du and prune show and remove what the cache has", async () => {
    expect(await ok([buildx!, "du"], { env })).toMatch(/Total:\s+\S+B/);
    expect(await ok([buildx!, "prune", "-af"], { env })).toMatch(/Total:\s+\S+B/);
    expect((await get<{ BuildCache: object[] }>("/system/df")).BuildCache).toEqual([]);
  });

  test("the routes want an upgrade, and a session its id", async () => {
    expect(await httpCall(daemon.socket, "POST", "/v1.51/grpc")).toMatchObject({ status: 400 });
    expect(await httpCall(daemon.socket, "POST", "/session", undefined, { Connection: "Upgrade", Upgrade: "h2c" })).toMatchObject({ status: 400 });
  });

  test("HTTP/2 from the first byte on is served on the main socket", async () => {
    const session = connectHttp2("http://localhost", { createConnection: () => connect(daemon.socket) });
    const call = session.request({
      ":method": "POST",
      ":path": "/moby.buildkit.v1.Control/Info",
      "content-type": "application/grpc",
      te: "trailers",
    });
    const trailers = once(call, "trailers");
    let body = Buffer.alloc(0);
    call.on("data", (data: Buffer) => (body = Buffer.concat([body, data])));
    call.end(Buffer.alloc(5));
    expect((await trailers)[0]).toMatchObject({ "grpc-status": "0" });
    expect(body.toString()).toContain("wherry");
    session.close();
    expect((await httpCall(daemon.socket, "GET", "/_ping")).text).toBe("OK");
  });

  test.skipIf(compose === undefined)("compose 2 builds by it", async () => {
    const folder = context({
      Dockerfile: "FROM busybox\nARG WHO\nRUN echo built for $WHO >/who\nCMD cat /who\n",
      "compose.yaml": "services:\n  web:\n    image: by-compose-2\n    network_mode: none\n    build: {context: ., network: none, args: {WHO: compose}}\n",
    });
    const project = (...args: string[]) => run([compose!, "--project-directory", folder, ...args], { env });
    expect(await project("build")).toMatchObject({ code: 0 });
    expect(await wherry("run", "--rm", "--network=none", "by-compose-2")).toBe("built for compose");
  });
});
