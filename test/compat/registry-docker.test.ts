/** The stock docker client and ours pull from and push to Debian's docker-registry; dockerd, skopeo and podman see the same digests. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasProgram, TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { type ArchiveInfo, busyboxArchive } from "./images.ts";
import { DockerRegistry } from "./registry.ts";
import { ok, run } from "./run.ts";

const reason = whyNot() ?? DockerRegistry.missing ?? (hasProgram("docker") ? undefined : "no docker client");
if (reason) console.warn(`registry-docker: skipped: ${reason}`);
const noSkopeo = hasProgram("skopeo") ? undefined : "no skopeo";
if (noSkopeo) console.warn(`registry-docker: skopeo's view: skipped: ${noSkopeo}`);

describe.skipIf(reason !== undefined)("a registry, docker's client and ours", () => {
  const work = mkdtempSync(join(tmpdir(), "wt-reg-"));
  const daemon = new TestDaemon();
  const env = { DOCKER_HOST: daemon.host, WHERRY_HOST: daemon.host, DOCKER_CONFIG: join(work, "docker-config"), HOME: work };
  const docker = (...args: string[]) => ok(["docker", ...args], { env });
  const wherry = (...args: string[]) => ok([wherryPath, ...args], { env });
  let registry: DockerRegistry;
  let archive: ArchiveInfo;
  let name: string;
  let digest: string;

  beforeAll(async () => {
    archive = busyboxArchive(work);
    [registry] = await Promise.all([DockerRegistry.start(join(work, "registry")), daemon.start()]);
    await docker("load", "-i", archive.path);
    name = `${registry.host}/things/busybox`;
    await docker("tag", "busybox", `${name}:1`);
    const pushed = await docker("push", `${name}:1`);
    expect(pushed).toContain(`The push refers to repository [${name}]`);
    digest = /^1: digest: (sha256:[0-9a-f]{64}) size: \d+$/m.exec(pushed)![1]!;
  });

  afterAll(async () => {
    const left = await daemon.stop();
    await registry.stop();
    rmSync(work, { recursive: true, force: true });
    expect(left).toEqual([]);
  });

  /** Away with the image, under all its names. */
  const forget = () => docker("rmi", "-f", archive.id);

  test("what was pushed is pulled with the same id and digest; both are shown", async () => {
    await forget();
    const output = await docker("pull", `${name}:1`);
    expect(output).toContain("1: Pulling from things/busybox");
    expect(output).toMatch(/: Pull complete$/m);
    expect(output).toContain(`Digest: ${digest}\nStatus: Downloaded newer image for ${name}:1\n${name}:1`);
    expect(await docker("images", "--no-trunc", "--digests", "--format", "{{.Repository}}:{{.Tag}} {{.Digest}} {{.ID}}")).toBe(
      `${name}:1 ${digest} ${archive.id}`,
    );
    expect(await docker("image", "inspect", "--format", "{{json .RepoDigests}}", `${name}:1`)).toBe(`["${name}@${digest}"]`);
    expect(await docker("pull", `${name}:1`)).toContain(`Status: Image is up to date for ${name}:1`);
  });

  test("a pulled image that is pushed again sends nothing and keeps its digest; another repository mounts it", async () => {
    const sent = registry.requests("PATCH").length;
    expect(await docker("push", `${name}:1`)).toMatch(new RegExp(`Layer already exists\\n1: digest: ${digest} `));
    await docker("tag", `${name}:1`, `${registry.host}/other/box:2`);
    expect(await docker("push", `${registry.host}/other/box:2`)).toMatch(new RegExp(`Mounted from things/busybox\\n2: digest: ${digest} `));
    expect(registry.requests("PATCH")).toHaveLength(sent);
  });

  test.skipIf(noSkopeo)("skopeo sees the same digest and config", async () => {
    const seen = JSON.parse(await ok(["skopeo", "inspect", "--tls-verify=false", `docker://${name}:1`])) as { Digest: string; Layers: string[] };
    expect(seen.Digest).toBe(digest);
    const manifest = JSON.parse(await ok(["skopeo", "inspect", "--raw", "--tls-verify=false", `docker://${name}:1`])) as { config: { digest: string } };
    expect(manifest.config.digest).toBe(archive.id);
  });

  test("run fetches a missing image; by digest; with our client as with docker's", async () => {
    await forget();
    const first = await run(["docker", "run", "--rm", "--network", "none", `${name}:1`, "echo", "hi"], { env });
    expect(first).toMatchObject({ code: 0, stdout: "hi\n" });
    expect(first.stderr).toContain(`Unable to find image '${name}:1' locally`);
    await forget();
    const second = await run([wherryPath, "run", "--rm", "--network", "none", `${name}@${digest}`, "echo", "ho"], { env });
    expect(second).toMatchObject({ code: 0, stdout: "ho\n" });
    expect(await wherry("images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}")).toBe(`${name} <none> ${digest}`);
    expect(await wherry("pull", "-q", `${name}:1`)).toBe(`${name}:1`);
    expect(await wherry("push", "-q", `${name}:1`)).toBe(`${name}:1`);
  });

  test("all tags come and go together", async () => {
    await docker("tag", `${name}:1`, `${registry.host}/many:a`);
    await docker("tag", `${name}:1`, `${registry.host}/many:b`);
    const pushed = await docker("push", "-a", `${registry.host}/many`);
    expect(pushed).toMatch(/^a: digest: .*\n(?:.*\n)*b: digest: /m);
    await forget();
    expect(await docker("pull", "-a", `${registry.host}/many`)).toContain(`Status: Downloaded newer image for ${registry.host}/many:a`);
    expect((await docker("images", "--format", "{{.Repository}}:{{.Tag}}")).split("\n").sort()).toEqual([`${registry.host}/many:a`, `${registry.host}/many:b`]);
    await docker("pull", `${name}:1`);
  });

  test("what is not there, and a registry that is not there, in docker's words", async () => {
    const call = async (...args: string[]) => (await run(["docker", ...args], { env })).stderr.trim();
    expect(await call("pull", `${registry.host}/nope:1`)).toBe(
      `Error response from daemon: manifest for ${registry.host}/nope:1 not found: manifest unknown: manifest unknown`,
    );
    expect(await call("push", `${registry.host}/nope:1`)).toBe(`An image does not exist locally with the tag: ${registry.host}/nope`);
    expect(await call("push", `${name}:2`)).toBe(`tag does not exist: ${name}:2`);
    await registry.stop();
    expect(await call("pull", `${name}:1`)).toBe(
      `Error response from daemon: Get "http://${registry.host}/v2/": dial tcp ${registry.host}: connect: connection refused`,
    );
  });
});
