/**
 * The two clients that Node programs use. dockerode: one job on wherry and beside it on dockerd 20.10, which must look the same. testcontainers 10: without
 * its reaper (whose image comes from a registry) and with a stand-in for it that speaks the reaper's protocol in a container, on the bind-mounted socket.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { fileURLToPath } from "node:url";
import Docker from "dockerode";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasProgram, whyNot } from "./daemon.ts";
import { type Engines, normal, startEngines } from "./engines.ts";
import { dockerClientTree, writeArchive } from "./images.ts";
import { cleanEnv, eventually, ok } from "./run.ts";

const reason = whyNot() ?? (hasProgram("docker") ? undefined : "no docker client");
if (reason) console.warn(`node-clients: skipped: ${reason}`);

async function text(stream: NodeJS.ReadableStream): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString("utf8");
}

/** What a program that uses dockerode sees. */
async function dockerodeJob(socketPath: string): Promise<Record<string, unknown>> {
  const docker = new Docker({ socketPath });
  const seen: Record<string, unknown> = {};
  const refused = async (what: string, call: () => Promise<unknown>): Promise<void> => {
    seen[what] = await call().then(
      () => "accepted",
      (error: { statusCode: number; reason: string }) => [error.statusCode, error.reason],
    );
  };
  seen.ping = String(await docker.ping());
  const output = new PassThrough();
  const written = text(output);
  const [result] = (await docker.run("busybox", ["sh", "-c", "echo from run; exit 3"], output, { HostConfig: { AutoRemove: false }, name: "ode-run" })) as [
    { StatusCode: number },
  ];
  output.end();
  seen.run = [result.StatusCode, await written];
  await docker.getContainer("ode-run").remove();

  const network = await docker.createNetwork({ Name: "ode-net", Labels: { made: "ode" } });
  await docker.createVolume({ Name: "ode-vol", Labels: { made: "ode" } });
  const container = await docker.createContainer({
    Image: "busybox",
    name: "ode",
    Cmd: ["sh", "-c", "trap 'exit 0' TERM; echo one; echo two >&2; while :; do sleep 0.1; done"],
    Labels: { made: "ode" },
    HostConfig: { Binds: ["ode-vol:/data"], NetworkMode: "ode-net", Memory: 64 * 1024 * 1024 },
    OpenStdin: true,
  });
  await container.start();
  const inspected = await container.inspect();
  seen.inspect = [inspected.Name, inspected.State.Status, inspected.Config.Labels, inspected.HostConfig.Binds, Object.keys(inspected.NetworkSettings.Networks)];
  const exec = await container.exec({ Cmd: ["sh", "-c", "cat; echo err >&2; exit 9"], AttachStdin: true, AttachStdout: true, AttachStderr: true });
  const duplex = await exec.start({ hijack: true, stdin: true });
  const [out, err] = [new PassThrough(), new PassThrough()];
  const texts = Promise.all([text(out), text(err)]);
  docker.modem.demuxStream(duplex, out, err);
  duplex.on("end", () => [out, err].forEach((one) => void one.end()));
  duplex.end("half-closed input");
  seen.exec = [await texts, (await exec.inspect()).ExitCode];
  seen.logs = (await container.logs({ stdout: true, stderr: true })).toString("latin1").split("\n").sort();
  const archive = await container.getArchive({ path: "/etc/second-layer" });
  seen.archive = (await text(archive)).includes("second-layer");
  seen.stats = Object.keys(await container.stats({ stream: false }))
    .filter((key) => ["cpu_stats", "memory_stats", "networks", "pids_stats"].includes(key))
    .sort();
  seen.list = (await docker.listContainers({ filters: { label: ["made=ode"] } })).map((one) => [one.Names, one.State, one.Image]);
  await refused("a network in use", () => network.remove());
  await refused("a container that runs", () => container.remove());
  await refused("nobody", () => docker.getContainer("nobody").inspect());
  await refused("no image", () => docker.createContainer({ Image: "no-such-image" }));
  await refused("a bad body", () =>
    docker.createContainer({ Image: "busybox", Cmd: 7 as unknown as string[] }).catch((e: { statusCode: number; reason: string }) => {
      throw { ...e, statusCode: e.statusCode, reason: "" };
    }),
  );
  await container.stop({ t: 3 });
  await refused("stopped twice", () => container.stop());
  seen.wait = await container.wait();
  await container.remove({ v: true });
  await network.remove();
  await docker.getVolume("ode-vol").remove();
  await container.inspect().catch((error: { statusCode: number }) => (seen.gone = error.statusCode));
  return JSON.parse(normal(JSON.stringify(seen))) as Record<string, unknown>;
}

/** The reaper's protocol (a filter a line, answered by ACK; when the connection ends, what matches is removed) with busybox' nc and docker's own client. */
const reaper = `#!/bin/sh
labels=""
while read -r line; do labels="$labels --filter $line"; echo ACK; done
[ -n "$labels" ] || exit 0
for c in $(docker ps -aq $labels); do docker rm -fv $c; done >&2
for n in $(docker network ls -q $labels); do docker network rm $n; done >&2
for v in $(docker volume ls -q $labels); do docker volume rm $v; done >&2
`;

/** An image in the reaper's place, with docker's client in it. */
async function reaperArchive(work: string): Promise<string> {
  const tree = await dockerClientTree(join(work, "reaper-tree"));
  writeFileSync(join(tree, "bin/reap"), reaper, { mode: 0o755 });
  return writeArchive(join(work, "reaper.tar"), {
    tag: "reaper:latest",
    layers: [tree],
    config: { Cmd: ["sh", "-c", "echo Started; exec nc -ll -p 8080 -e /bin/reap"], ExposedPorts: { "8080/tcp": {} } },
  }).path;
}

describe.skipIf(reason !== undefined)(`dockerode and testcontainers${reason ? ` (skipped: ${reason})` : ""}`, () => {
  let engines: Engines;
  beforeAll(async () => {
    engines = await startEngines("wt-node-");
  });
  afterAll(async () => {
    expect(await engines.stop()).toEqual([]);
  });

  test("dockerode: a job looks the same as on dockerd", async () => {
    const ours = await dockerodeJob(engines.wherry.socket);
    expect(ours).toMatchObject({ ping: "OK", exec: [["half-closed input", "err\n"], 9], gone: 404 });
    if (engines.dockerd === undefined) return;
    const theirs = await dockerodeJob(engines.dockerd.socket);
    // docs/compat.md: "wait", "wrong types".
    expect({ ...ours, wait: { ...(ours.wait as object), Error: null }, "a bad body": [500, ""] }).toEqual(theirs);
  });

  /** In a process of its own: testcontainers keeps its engine for the process's life, and the reaper acts when the process has ended. */
  const testcontainers = async (host: string, extra: Readonly<Record<string, string>>): Promise<unknown> => {
    const job = fileURLToPath(new URL("testcontainers.job.mjs", import.meta.url));
    const child = spawn(process.execPath, [job], { env: cleanEnv({ DOCKER_HOST: host, HOME: engines.work, ...extra }), stdio: ["ignore", "pipe", "inherit"] });
    const shown = text(child.stdout);
    const timer = setTimeout(() => child.kill("SIGKILL"), 60_000);
    const [code] = (await once(child, "exit")) as [number | null];
    clearTimeout(timer);
    expect([code, await shown]).toEqual([0, expect.anything()]);
    return JSON.parse(await shown);
  };

  test("testcontainers without its reaper", async () => {
    const ours = await testcontainers(engines.wherry.host, { TESTCONTAINERS_RYUK_DISABLED: "true" });
    expect(ours).toMatchObject({ page: "the page\n", exec: ["in the container\n", 0], copied: "copied in\n", ended: 0 });
  });

  test("testcontainers with a reaper on the bind-mounted socket: what a killed program leaves goes away", async () => {
    await ok(["docker", "load", "-q", "-i", await reaperArchive(engines.work)], { env: { DOCKER_HOST: engines.wherry.host } });
    await testcontainers(engines.wherry.host, {
      LEAVE: "yes",
      RYUK_CONTAINER_IMAGE: "reaper:latest",
      TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE: engines.wherry.socket,
    });
    const left = () =>
      ok(["docker", "ps", "-aq", "--filter", "label=org.testcontainers=true", "--filter", "label=left"], { env: { DOCKER_HOST: engines.wherry.host } });
    expect(await eventually(left, (ids) => ids === "", 20_000)).toBe("");
  });
});
