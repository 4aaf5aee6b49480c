/**
 * Builds by other clients than docker's (root): docker-py, dockerode, testcontainers, docker-compose 1.29. Those that are not installed are skipped with the reason.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Readable } from "node:stream";
import Dockerode from "dockerode";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { endBlocks, formatHeader, padding } from "#unionfs/tar/writer.ts";
import { hasProgram, TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { busyboxArchive } from "./images.ts";
import { ok, run } from "./run.ts";

const reason = whyNot();
if (reason) console.warn(`build-clients: skipped: ${reason}`);
const noPython = spawnSync("python3", ["-c", "import docker"]).status === 0 ? undefined : "no python3-docker";
const noCompose = hasProgram("docker-compose") ? undefined : "no docker-compose";
for (const missing of [noPython, noCompose]) if (missing) console.warn(`build-clients: skipped: ${missing}`);

const dockerfile = 'FROM busybox\nARG WHO=nobody\nRUN echo built for $WHO >/who\nCMD ["cat", "/who"]\n';

describe.skipIf(reason !== undefined)(`builds by other clients${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const work = mkdtempSync(join(tmpdir(), "wt-bclients-"));
  const context = join(work, "context");
  const daemon = new TestDaemon();
  const env = { DOCKER_HOST: daemon.host, DOCKER_CONFIG: join(work, "docker-config"), WHERRY_HOST: daemon.host };

  beforeAll(async () => {
    await daemon.start();
    await ok([wherryPath, "load", "-i", busyboxArchive(work).path], { env });
    mkdirSync(context);
    writeFileSync(join(context, "Dockerfile"), dockerfile);
  });

  afterAll(async () => {
    const left = await daemon.stop();
    rmSync(work, { recursive: true, force: true });
    expect(left).toEqual([]);
  });

  const output = (tag: string) => ok([wherryPath, "run", "--rm", tag], { env });

  test.skipIf(noPython !== undefined)("docker-py: the image and its log, and BuildError for a failing step", async () => {
    const script = `
import docker, io, sys
client = docker.from_env()
image, log = client.images.build(path=sys.argv[1], tag="by-python", buildargs={"WHO": "python"}, rm=True)
print(image.tags[0], any("Step 3/4" in line.get("stream", "") for line in log))
try:
    client.images.build(fileobj=io.BytesIO(b"FROM busybox\\nRUN exit 7\\n"), forcerm=True)
except docker.errors.BuildError as error:
    print(error.msg)
`;
    const printed = await ok(["python3", "-c", script, context], { env });
    expect(printed).toBe("by-python:latest True\nThe command '/bin/sh -c exit 7' returned a non-zero code: 7");
    expect(await output("by-python")).toBe("built for python");
  });

  test("dockerode: followProgress ends with the image's id", async () => {
    const bytes = Buffer.from(dockerfile);
    const header = formatHeader({
      name: "Dockerfile",
      type: "file",
      linkname: "",
      mode: 0o644,
      uid: 0,
      gid: 0,
      size: bytes.length,
      mtimeNs: 0n,
      major: 0,
      minor: 0,
      xattrs: [],
    });
    const tar = Readable.from([Buffer.concat([header, bytes, padding(bytes.length), endBlocks()])]);
    const client = new Dockerode({ socketPath: daemon.socket });
    const stream = await client.buildImage(tar, { t: "by-dockerode", buildargs: { WHO: "dockerode" } });
    const lines = await new Promise<{ stream?: string; aux?: { ID: string } }[]>((resolve, reject) =>
      client.modem.followProgress(stream, (error, all) => (error === null ? resolve(all) : reject(error))),
    );
    const id = lines.find(({ aux }) => aux !== undefined)?.aux?.ID;
    expect(id).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect((await client.getImage("by-dockerode").inspect()).Id).toBe(id);
    expect(await output("by-dockerode")).toBe("built for dockerode");
  });

  test("testcontainers: fromDockerfile builds and runs", async () => {
    const job = fileURLToPath(new URL("testcontainers-build.job.mjs", import.meta.url));
    const printed = await run([process.execPath, job, context], { env: { ...env, TESTCONTAINERS_RYUK_DISABLED: "true", HOME: work } });
    expect(printed.stdout.trim(), printed.stderr).toBe("built for testcontainers");
  });

  test.skipIf(noCompose !== undefined)("docker-compose 1.29: build, and up of what was built", async () => {
    writeFileSync(
      join(work, "docker-compose.yml"),
      'version: "3.8"\nservices:\n  one:\n    build:\n      context: ./context\n      args:\n        WHO: compose\n    image: by-compose\n    network_mode: none\n',
    );
    const built = await run(["docker-compose", "-f", join(work, "docker-compose.yml"), "-p", `b${daemon.id}`, "build"], {
      env: { ...env, COMPOSE_DOCKER_CLI_BUILD: "0", DOCKER_BUILDKIT: "0" },
    });
    expect(built.stdout + built.stderr).toContain("Successfully tagged by-compose:latest");
    expect(await output("by-compose")).toBe("built for compose");
  });
});
