/** `wherry cache serve` before Debian's docker-registry: as a mirror of wherryd, for podman and skopeo, and when the registry is gone; `--registry-cache` of the daemon. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasProgram, TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { type ArchiveInfo, busyboxArchive } from "./images.ts";
import { DockerRegistry } from "./registry.ts";
import { cleanEnv, ok, run } from "./run.ts";

const reason = whyNot() ?? DockerRegistry.missing;
if (reason) console.warn(`registry-cache: skipped: ${reason}`);
for (const name of ["podman", "skopeo"]) if (!hasProgram(name)) console.warn(`registry-cache: ${name}: skipped: it is not installed`);

describe.skipIf(reason !== undefined)("a cache of registries", () => {
  const work = mkdtempSync("/var/tmp/wt-cache-");
  const policy = join(work, "policy.json");
  const storage = ["--root", join(work, "containers"), "--runroot", join(work, "containers-run"), "--storage-driver", "vfs"];
  const skopeo = (...args: string[]) => ok(["skopeo", "--policy", policy, ...args]);
  const caches: ChildProcess[] = [];
  let registry: DockerRegistry;
  let other: DockerRegistry;
  let archive: ArchiveInfo;
  let daemon: TestDaemon;
  let cache: string;
  let digest: string;

  /** `host:port` of a cache that runs until the end. */
  const serve = async (...args: string[]): Promise<string> => {
    const env = cleanEnv({ HOME: work, WHERRY_HOST: `unix://${join(work, "nobody.sock")}` });
    const child = spawn(wherryPath, ["cache", "serve", "--listen", "127.0.0.1:0", ...args], { stdio: ["ignore", "pipe", "inherit"], env });
    caches.push(child);
    const [line] = (await once(child.stdout, "data")) as [Buffer];
    return / on http:\/\/(127\.0\.0\.1:\d+)/.exec(String(line))![1]!;
  };
  const wherry = (...args: string[]) => ok([wherryPath, ...args], { env: { WHERRY_HOST: daemon.host, HOME: work } });

  beforeAll(async () => {
    archive = busyboxArchive(work);
    writeFileSync(policy, JSON.stringify({ default: [{ type: "insecureAcceptAnything" }] }));
    [registry, other] = await Promise.all([DockerRegistry.start(join(work, "registry")), DockerRegistry.start(join(work, "other"))]);
    cache = await serve("--directory", join(work, "kept"), "--upstream", registry.host, "--tag-ttl", "0s");
    daemon = new TestDaemon({ args: ["--registry-mirror", `${registry.host}=http://${cache}`, "--registry-cache", join(work, "daemon-cache")] });
    await daemon.start();
    await wherry("load", "-i", archive.path);
    await wherry("tag", "busybox", `${registry.host}/box:1`);
    digest = /digest: (sha256:[0-9a-f]{64})/.exec(await wherry("push", `${registry.host}/box:1`))![1]!;
    await wherry("rmi", "-f", "busybox", `${registry.host}/box:1`);
  });
  afterAll(async () => {
    const left = await daemon.stop();
    for (const child of caches) {
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      expect(await ended).toEqual([0, null]);
    }
    await Promise.all([registry.stop(), other.stop()]);
    rmSync(work, { recursive: true, force: true });
    expect(left).toEqual([]);
  });

  test("is a mirror: the registry is asked for a blob once, whoever pulls", async () => {
    await wherry("pull", `${registry.host}/box:1`);
    const asked = registry.requests("GET", "/blobs/").length;
    expect(asked).toBeGreaterThan(0);
    expect(await wherry("run", "--rm", "--network", "none", `${registry.host}/box:1`, "echo", "runs")).toBe("runs");
    if (hasProgram("skopeo")) {
      const copy = join(work, "copy");
      await skopeo("copy", "--src-tls-verify=false", `docker://${cache}/box:1`, `dir:${copy}`);
      expect(await ok(["skopeo", "manifest-digest", join(copy, "manifest.json")])).toBe(digest);
      await skopeo("copy", "--src-tls-verify=false", `docker://${cache}/box@${digest}`, `dir:${join(work, "by-digest")}`);
    }
    if (hasProgram("podman")) {
      await ok(["podman", ...storage, "pull", "-q", "--tls-verify=false", `${cache}/box:1`]);
      expect(await ok(["podman", ...storage, "image", "inspect", "--format", "{{.Digest}}", `${cache}/box:1`])).toBe(digest);
    }
    expect(registry.requests("GET", "/blobs/").length).toBe(asked);
  });

  test("tells what it has", async () => {
    expect((await wherry("registry", "ls", cache)).split("\n")).toContain(`${cache}/box`);
    expect(await wherry("registry", "tags", `${cache}/box`)).toBe("1");
    if (hasProgram("skopeo")) expect(JSON.parse(await skopeo("list-tags", "--tls-verify=false", `docker://${cache}/box`))).toMatchObject({ Tags: ["1"] });
  });

  test("is read-only", async () => {
    await wherry("tag", `${registry.host}/box:1`, `${cache}/mine:1`);
    const refused = await run([wherryPath, "push", `${cache}/mine:1`], { env: { WHERRY_HOST: daemon.host, HOME: work } });
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("this cache does not take that")]);
    await wherry("rmi", `${cache}/mine:1`);
  });

  test("takes pushes where they are allowed, from skopeo and from us", async () => {
    const open = await serve("--directory", join(work, "pushed"), "--upstream", registry.host, "--push");
    await wherry("tag", `${registry.host}/box:1`, `${open}/mine/box:2`);
    expect(await wherry("push", `${open}/mine/box:2`)).toContain(`digest: ${digest} `);
    if (hasProgram("skopeo")) {
      await skopeo("copy", "--src-tls-verify=false", "--dest-tls-verify=false", `docker://${cache}/box:1`, `docker://${open}/theirs:3`);
      expect(JSON.parse(await skopeo("inspect", "--tls-verify=false", `docker://${open}/theirs:3`))).toMatchObject({ Digest: digest });
    }
    await wherry("rmi", `${open}/mine/box:2`);
    await wherry("pull", `${open}/mine/box:2`);
    expect(await wherry("image", "inspect", "--format", "{{.Id}}", `${open}/mine/box:2`)).toBe(archive.id);
    await wherry("rmi", `${open}/mine/box:2`);
  });

  test("the daemon's own cache gives a pushed layer the digest it came with, and the next pull without a registry", async () => {
    const blobs = readdirSync(join(work, "daemon-cache/blobs/sha256"));
    expect(blobs.length).toBeGreaterThan(0);
    await registry.stop();
    const far = `${other.host}/far:1`;
    await wherry("tag", `${registry.host}/box:1`, far);
    expect(await wherry("push", far)).toContain(`digest: ${digest} `);
    await wherry("rmi", far, `${registry.host}/box:1`);
    // From the registry that is gone: manifests by way of the mirror, layers out of the directory.
    await wherry("pull", `${registry.host}/box:1`);
    expect(await wherry("image", "inspect", "--format", "{{.Id}}", `${registry.host}/box:1`)).toBe(archive.id);
    await wherry("rmi", `${registry.host}/box:1`);
  });

  test("a directory that was kept serves on, also when the registry has gone", async () => {
    mkdirSync(join(work, "moved"));
    await ok(["cp", "-a", `${work}/kept/.`, join(work, "moved")]);
    const again = await serve("--directory", join(work, "moved"), "--upstream", registry.host);
    if (!hasProgram("skopeo")) return;
    await skopeo("copy", "--src-tls-verify=false", `docker://${again}/box:1`, `dir:${join(work, "again")}`);
    expect(await ok(["skopeo", "manifest-digest", join(work, "again/manifest.json")])).toBe(digest);
  });
});
