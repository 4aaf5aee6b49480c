/**
 * Whole call sequences of programs that are not installed here, as scripts: what a dev-container tool does by docker's client, what a GitLab runner and act do by
 * the API. Each call's answer is what the program goes on with.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import Dockerode from "dockerode";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasProgram, TestDaemon, whyNot } from "./daemon.ts";
import { busyboxArchive } from "./images.ts";
import { cleanEnv, eventually, ok, run } from "./run.ts";

const reason = whyNot() ?? (hasProgram("docker") ? undefined : "no docker client");
if (reason) console.warn(`job sequences: skipped: ${reason}`);

describe.skipIf(reason !== undefined)(`call sequences${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const daemon = new TestDaemon();
  const work = mkdtempSync(join(tmpdir(), "wt-jobs-"));
  const env = { DOCKER_HOST: daemon.host };
  const docker = (...args: string[]) => ok(["docker", ...args], { env });
  let archive: string;
  beforeAll(async () => {
    await daemon.start();
    archive = busyboxArchive(work).path;
    await docker("load", "-q", "-i", archive);
  });
  afterAll(async () => {
    expect(await daemon.stop()).toEqual([]);
    rmSync(work, { recursive: true, force: true });
  });

  test("a dev container: found by labels, made, entered, stopped, found again", async () => {
    const folder = join(work, "project");
    mkdirSync(folder);
    writeFileSync(join(folder, "file"), "of the project\n");
    const labels = [`devcontainer.local_folder=${folder}`, "devcontainer.config_file=x"];
    const find = () => docker("ps", "-q", "-a", ...labels.flatMap((label) => ["--filter", `label=${label}`]));
    expect(await docker("version", "--format", "{{json .}}").then(JSON.parse)).toMatchObject({ Server: { ApiVersion: "1.51", Os: "linux" } });
    expect(await docker("info", "-f", "{{.Runtimes.nvidia}}")).toBe("<no value>");
    expect(await find()).toBe("");
    expect(JSON.parse(await docker("inspect", "--type", "image", "busybox"))[0]).toMatchObject({
      Config: { Labels: expect.anything() },
      Architecture: expect.any(String),
    });
    expect((await run(["docker", "inspect", "--type", "volume", "vscode"], { env })).code).toBe(1);

    const events: ChildProcess = spawn("docker", ["events", "--format", "{{json .}}", "--filter", "event=start"], {
      env: cleanEnv(env),
      stdio: ["ignore", "pipe", "inherit"],
    });
    const started = once(events.stdout!, "data") as Promise<[Buffer]>;
    await eventually(
      async () => (await daemon.api("GET", "/info")).json<{ NEventsListener: number }>().NEventsListener,
      (n) => n === 1,
    );
    const made = spawn(
      "docker",
      // prettier-ignore
      [
        "run",
        "--sig-proxy=false",
        "-a",
        "STDOUT",
        "-a",
        "STDERR",
        "--mount",
        `type=bind,source=${folder},target=/workspaces/project`,
        "--mount",
        "type=volume,source=vscode,target=/vscode",
        ...labels.flatMap((label) => ["-l", label]),
        "--entrypoint",
        "/bin/sh",
        "busybox",
        "-c",
        "echo Container started; trap 'exit 0' 15; while sleep 1 & wait $!; do :; done",
        "-",
      ],
      { env: cleanEnv(env), stdio: ["ignore", "pipe", "inherit"] },
    );
    expect(String(((await once(made.stdout!, "data")) as [Buffer])[0])).toBe("Container started\n");
    const event = JSON.parse(String((await started)[0])) as { id: string; Actor: { Attributes: Record<string, string> } };
    events.kill("SIGTERM");
    const id = await find();
    expect(event.id.startsWith(id)).toBe(true);
    expect(event.Actor.Attributes).toMatchObject({ "devcontainer.config_file": "x" });
    made.kill("SIGKILL"); // the tool goes, the container stays

    const [inspected] = JSON.parse(await docker("inspect", "--type", "container", id)) as [{ State: { Status: string }; Mounts: { Type: string }[] }];
    expect([inspected.State.Status, inspected.Mounts.map(({ Type }) => Type).sort()]).toEqual(["running", ["bind", "volume"]]);
    // A shell that is kept open, with commands on its input.
    const shell = await ok(["docker", "exec", "-i", "-u", "root", "-e", "A=b", "-w", "/workspaces/project", id, "/bin/sh"], {
      env,
      input: "echo $A; cat file; id -u\nexit 0\n",
    });
    expect(shell).toBe("b\nof the project\n0");
    expect((await run(["docker", "exec", "-i", id, "/bin/sh"], { env, input: "exit 7" })).code).toBe(7);
    await docker("tag", "busybox", "vsc-project-features");
    await docker("stop", "-t", "0", id);
    expect(await docker("ps", "-q")).toBe("");
    await docker("start", id);
    expect(await find()).toBe(id);
    await docker("rm", "-f", id);
    await docker("rmi", "vsc-project-features");
    await docker("volume", "rm", "vscode");
  });

  test("a GitLab runner's job: helper image, volumes, a service on a network of its own, a script on the build container's input", async () => {
    const client = new Dockerode({ socketPath: daemon.socket });
    expect(await client.info()).toMatchObject({ OSType: "linux" });
    expect(await client.version()).toMatchObject({ ApiVersion: "1.51" });
    await text(await client.loadImage(archive));
    const { Id: image } = await client.getImage("busybox:latest").inspect();
    await client.getImage("busybox:latest").tag({ repo: "gitlab-helper", tag: "x86_64" });
    await client.createVolume({ Name: "runner-cache", Labels: { "com.gitlab.gitlab-runner.managed": "true" } });
    const network = await client.createNetwork({ Name: "runner-net", CheckDuplicate: true, Labels: { "com.gitlab.gitlab-runner.job": "1" } });
    const common = { Image: image, Labels: { "com.gitlab.gitlab-runner.managed": "true" } };
    const service = await client.createContainer({
      ...common,
      name: "runner-svc",
      Cmd: ["sh", "-c", "mkdir /w; echo served > /w/index.html; httpd -f -p 80 -h /w"],
      NetworkingConfig: { EndpointsConfig: { "runner-net": { Aliases: ["web"] } } },
      HostConfig: { NetworkMode: "runner-net", RestartPolicy: { Name: "no" } },
    });
    await service.start();
    const build = await client.createContainer({
      ...common,
      name: "runner-build",
      Cmd: ["sh"],
      AttachStdin: true,
      AttachStdout: true,
      AttachStderr: true,
      OpenStdin: true,
      StdinOnce: true,
      HostConfig: { Binds: ["runner-cache:/cache"], NetworkMode: "runner-net" },
    });
    /** Each stage starts the same container anew and sends it its script. */
    const stage = async (script: string): Promise<{ code: number; out: string }> => {
      const stream = await build.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
      const out = new PassThrough();
      const all = text(out);
      client.modem.demuxStream(stream, out, out);
      stream.on("end", () => out.end());
      const ended = build.wait({ condition: "next-exit" }) as Promise<{ StatusCode: number }>;
      await build.start();
      stream.end(script);
      const { StatusCode } = await ended;
      return { code: StatusCode, out: await all };
    };
    expect(await stage("echo prepare; echo kept > /cache/f\n")).toEqual({ code: 0, out: "prepare\n" });
    expect(await stage("cat /cache/f; wget -qO- http://web/\n")).toEqual({ code: 0, out: "kept\nserved\n" });
    expect(await stage("echo failing >&2; exit 5\n")).toEqual({ code: 5, out: "failing\n" });
    expect((await build.inspect()).State).toMatchObject({ Status: "exited", ExitCode: 5 });
    const logs = (await service.logs({ stdout: true, stderr: true, timestamps: true })) as unknown as Buffer;
    expect(logs).toBeDefined();
    expect(await client.listContainers({ all: true, filters: { label: ["com.gitlab.gitlab-runner.managed=true"] } })).toHaveLength(2);
    await service.kill();
    for (const container of [build, service]) {
      await network
        .disconnect({ Container: container.id, Force: true })
        .catch((error: { statusCode: number }) => expect([403, 404, 409]).toContain(error.statusCode));
      await container.remove({ force: true, v: true });
    }
    await network.remove();
    await client.getVolume("runner-cache").remove();
    await client.getImage("gitlab-helper:x86_64").remove();
  });

  test("act's job: one container, files in, a step is an exec, files out", async () => {
    const client = new Dockerode({ socketPath: daemon.socket });
    await client.createVolume({ Name: "act-toolcache" });
    const job = await client.createContainer({
      name: "act-job",
      Image: "busybox",
      Entrypoint: ["tail", "-f", "/dev/null"],
      WorkingDir: "/github/workspace",
      Env: ["CI=true"],
      HostConfig: { Mounts: [{ Type: "volume", Source: "act-toolcache", Target: "/opt/hostedtoolcache" }], NetworkMode: "none", AutoRemove: true },
    });
    await job.start();
    const context = join(work, "act");
    mkdirSync(context);
    writeFileSync(join(context, "step.sh"), 'echo "running $1 in $PWD with $CI"; echo made > out.txt; exit $2\n', { mode: 0o755 });
    await ok(["tar", "-C", context, "-cf", join(work, "act.tar"), "step.sh"]);
    await job.putArchive(readFileSync(join(work, "act.tar")), { path: "/github/workspace" });
    for (const [name, code] of [
      ["first", 0],
      ["second", 3],
    ] as const) {
      const exec = await job.exec({
        Cmd: ["sh", "step.sh", name, String(code)],
        AttachStdout: true,
        AttachStderr: true,
        Env: ["CI=yes"],
        WorkingDir: "/github/workspace",
      });
      const stream = await exec.start({});
      const out = new PassThrough();
      client.modem.demuxStream(stream, out, out);
      stream.on("end", () => out.end());
      expect(await text(out)).toBe(`running ${name} in /github/workspace with yes\n`);
      expect(await exec.inspect()).toMatchObject({ ExitCode: code, Running: false });
    }
    writeFileSync(join(work, "out.tar"), await readAll(await job.getArchive({ path: "/github/workspace/out.txt" })));
    expect(await ok(["tar", "-xOf", join(work, "out.tar"), "out.txt"])).toBe("made");
    await job.remove({ force: true, v: true });
    // --rm and the removal may meet: either way it is gone in the end.
    await eventually(
      () => client.listContainers({ all: true, filters: { name: ["act-job"] } }),
      (list) => list.length === 0,
    );
    await client.getVolume("act-toolcache").remove();
  });
});

async function readAll(stream: NodeJS.ReadableStream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}
