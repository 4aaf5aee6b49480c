/**
 * Images that dockerd, podman, buildah and skopeo push are pulled here with the same ids and digests, and they read what is pushed from here; a pulled image keeps its manifest from
 * registry to registry; killed pulls and pushes go on where they were.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { HostileRegistry, sha256 } from "../integration/hostile-registry.fixture.ts";
import { hasProgram, TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { Dockerd } from "./dockerd.ts";
import { type ArchiveInfo, busyboxArchive, writeArchive } from "./images.ts";
import { DockerRegistry } from "./registry.ts";
import { eventually, ok, run } from "./run.ts";

const reason = whyNot() ?? DockerRegistry.missing ?? (hasProgram("docker") ? undefined : "no docker client");
if (reason) console.warn(`registry-peers: skipped: ${reason}`);
for (const name of ["dockerd", "podman", "buildah", "skopeo"]) if (!hasProgram(name)) console.warn(`registry-peers: ${name}: skipped: it is not installed`);

describe.skipIf(reason !== undefined)("registries between engines", () => {
  const work = mkdtempSync("/var/tmp/wt-peers-");
  const daemon = new TestDaemon();
  const env = { DOCKER_HOST: daemon.host, WHERRY_HOST: daemon.host, DOCKER_CONFIG: join(work, "docker-config"), HOME: work };
  const wherry = (...args: string[]) => ok([wherryPath, ...args], { env });
  const policy = join(work, "policy.json");
  const storage = ["--root", join(work, "containers"), "--runroot", join(work, "containers-run"), "--storage-driver", "vfs"];
  const skopeo = (...args: string[]) => ok(["skopeo", "--policy", policy, ...args]);
  const podman = (...args: string[]) => ok(["podman", ...storage, ...args]);
  let registry: DockerRegistry;
  let other: DockerRegistry;
  let archive: ArchiveInfo;

  beforeAll(async () => {
    archive = busyboxArchive(work);
    writeFileSync(policy, JSON.stringify({ default: [{ type: "insecureAcceptAnything" }] }));
    [registry, other] = await Promise.all([DockerRegistry.start(join(work, "registry")), DockerRegistry.start(join(work, "other")), daemon.start()]);
  });
  afterAll(async () => {
    const left = await daemon.stop();
    await Promise.all([registry.stop(), other.stop()]);
    rmSync(work, { recursive: true, force: true });
    expect(left).toEqual([]);
  });

  beforeEach(() => wherry("image", "prune", "-a", "-f"));

  const remote = async (name: string): Promise<{ readonly digest: string; readonly config: string; readonly layers: string[]; readonly mediaType: string }> => {
    const raw = await ok([
      "curl",
      "-fsS",
      "-H",
      "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json",
      `http://${name.replace("/", "/v2/").replace(/:([^:/]+)$/, "/manifests/$1")}`,
    ]);
    const manifest = JSON.parse(raw) as { mediaType?: string; config: { digest: string }; layers: { digest: string }[] };
    return { digest: sha256(raw), config: manifest.config.digest, layers: manifest.layers.map(({ digest }) => digest), mediaType: manifest.mediaType ?? "" };
  };
  const local = async (name: string) => {
    const [image] = JSON.parse(await wherry("image", "inspect", name)) as [{ Id: string; RepoDigests: string[] }];
    return { id: image.Id, digests: image.RepoDigests.map((text) => text.slice(text.indexOf("@") + 1)) };
  };
  /** Pulls what somebody has pushed, and pushes it on: everywhere the same. */
  const roundTrip = async (name: string): Promise<void> => {
    const there = await remote(name);
    await wherry("pull", name);
    expect(await local(name)).toEqual({ id: there.config, digests: [there.digest] });
    expect(await wherry("push", name)).toContain(`digest: ${there.digest} `);
    // To a registry that has none of it: the layers come from where they were, and the manifest is the same.
    const far = name.replace(registry.host, other.host);
    await wherry("tag", name, far);
    expect(await wherry("push", far)).toContain(`digest: ${there.digest} `);
    expect(await remote(far)).toEqual(there);
    await wherry("rmi", name, far);
    await wherry("pull", far);
    expect((await local(far)).id).toBe(there.config);
    expect(await wherry("run", "--rm", "--network", "none", far, "echo", "runs")).toBe("runs");
    await wherry("rmi", far);
  };

  test.skipIf(Dockerd.missing)("dockerd pushes, wherry pulls; wherry pushes, dockerd pulls", async () => {
    const peer = new Dockerd(work);
    await peer.start();
    try {
      const docker = (...args: string[]) => ok(["docker", "-H", peer.host, ...args], { env: { DOCKER_CONFIG: join(work, "peer-config") } });
      await docker("load", "-i", archive.path);
      const name = `${registry.host}/from-dockerd:1`;
      await docker("tag", "busybox", name);
      const pushed = await docker("push", name);
      const theirs = /digest: (sha256:[0-9a-f]{64})/.exec(pushed)![1]!;
      expect((await remote(name)).digest).toBe(theirs);
      await roundTrip(name);
      await wherry("load", "-i", archive.path);
      const ours = `${registry.host}/from-wherry:1`;
      await wherry("tag", "busybox", ours);
      const digest = /digest: (sha256:[0-9a-f]{64})/.exec(await wherry("push", ours))![1]!;
      expect(await docker("pull", ours)).toContain(`Digest: ${digest}`);
      expect(await docker("image", "inspect", "--format", "{{.Id}}", ours)).toBe(archive.id);
      await wherry("rmi", "busybox", ours);
    } finally {
      await peer.stop();
    }
  });

  test.skipIf(!hasProgram("skopeo"))("skopeo copies images in both formats, compressed with gzip and zstd, and reads ours", async () => {
    for (const [tag, ...flags] of [
      ["v2s2", "--format", "v2s2"],
      ["oci", "--format", "oci"],
      ["zstd", "--format", "oci", "--dest-compress-format", "zstd"],
    ]) {
      const name = `${registry.host}/from-skopeo:${tag}`;
      await skopeo("copy", "-q", "--dest-tls-verify=false", ...flags, `docker-archive:${archive.path}`, `docker://${name}`);
      await roundTrip(name);
    }
    await wherry("load", "-i", archive.path);
    await wherry("tag", "busybox", `${registry.host}/for-skopeo:1`);
    await wherry("push", `${registry.host}/for-skopeo:1`);
    mkdirSync(join(work, "out"), { recursive: true });
    await skopeo("copy", "-q", "--src-tls-verify=false", `docker://${registry.host}/for-skopeo:1`, `dir:${join(work, "out")}`);
    expect(readdirSync(join(work, "out"))).toContain(archive.id.slice(7));
    await wherry("rmi", "busybox", `${registry.host}/for-skopeo:1`);
  });

  test.skipIf(!hasProgram("podman") || !hasProgram("buildah"))("podman and buildah push and pull", async () => {
    await podman("load", "-q", "--signature-policy", policy, "-i", archive.path);
    const name = `${registry.host}/from-podman:1`;
    await podman("push", "-q", "--signature-policy", policy, "--tls-verify=false", "busybox:latest", `docker://${name}`);
    await roundTrip(name);
    const built = `${registry.host}/from-buildah:1`;
    await ok([
      "buildah",
      ...storage,
      "push",
      "-q",
      "--signature-policy",
      policy,
      "--tls-verify=false",
      "--format",
      "oci",
      "busybox:latest",
      `docker://${built}`,
    ]);
    await roundTrip(built);
    await wherry("load", "-i", archive.path);
    const ours = `${registry.host}/for-podman:1`;
    await wherry("tag", "busybox", ours);
    await wherry("push", ours);
    await podman("pull", "-q", "--signature-policy", policy, "--tls-verify=false", ours);
    expect(await podman("image", "inspect", "--format", "{{.Id}}", ours)).toBe(archive.id.slice(7));
    await wherry("rmi", "busybox", ours);
  });

  test("a chosen platform: of an index, by its variant, and what there is not", async () => {
    await using server = await HostileRegistry.start();
    const layer = (text: string) => {
      const tar = gunzipSync(gzipSync(Buffer.alloc(1024)));
      return { blob: gzipSync(tar, { level: text.length % 9 }), diffId: sha256(tar) };
    };
    const entry = (architecture: string, variant: string | undefined, note: string) => {
      const tag = `${architecture}${variant ?? ""}`;
      const digest = server.image(tag, [layer(note)], () => undefined, { architecture, ...(variant === undefined ? {} : { variant }) });
      return {
        mediaType: "application/vnd.docker.distribution.manifest.v2+json",
        digest,
        size: server.manifests.get(tag)!.bytes.length,
        platform: { os: "linux", architecture, ...(variant === undefined ? {} : { variant }) },
      };
    };
    const manifests = [entry("arm", "v6", "a"), entry("arm", "v7", "bb"), entry("arm64", "v8", "ccc"), entry("s390x", undefined, "dddd")];
    const attestation = {
      ...manifests[0]!,
      platform: { os: "unknown", architecture: "unknown" },
      annotations: { "vnd.docker.reference.type": "attestation-manifest" },
    };
    const type = "application/vnd.oci.image.index.v1+json";
    const digest = server.manifest("multi", { schemaVersion: 2, mediaType: type, manifests: [attestation, ...manifests] }, type);
    const name = `${server.host}/x:multi`;
    for (const [platform, wanted] of [
      ["linux/arm64", "arm64/v8"],
      ["linux/arm", "arm/v7"],
      ["linux/arm/v6", "arm/v6"],
      ["linux/arm/v8", "arm/v7"],
      ["linux/s390x", "s390x"],
    ] as const) {
      await wherry("pull", "--platform", platform, name);
      const [image] = JSON.parse(await wherry("image", "inspect", name)) as [{ Architecture: string; Variant?: string; RepoDigests: string[] }];
      expect(`${image.Architecture}${image.Variant === undefined ? "" : `/${image.Variant}`}`).toBe(wanted);
      expect(image.RepoDigests).toEqual([`${server.host}/x@${digest}`]);
      await wherry("rmi", "-f", name);
    }
    const failed = await run([wherryPath, "pull", name], { env });
    expect(failed.stderr).toContain("no matching manifest for linux/amd64 in the manifest list entries");
    const single = await run([wherryPath, "pull", "--platform", "linux/amd64", `${server.host}/x:arm64v8`], { env });
    expect(single.stderr).toContain("does not match the specified platform: wanted linux/amd64, actual: linux/arm64/v8");
    const asked = JSON.parse((await daemon.api("GET", `/distribution/${server.host}/x:multi/json`)).text) as {
      Descriptor: { digest: string };
      Platforms: unknown[];
    };
    expect(asked).toMatchObject({ Descriptor: { digest, mediaType: type }, Platforms: manifests.map(({ platform }) => platform) });
  });

  test("killed in the middle of a pull, and of a push: the next one goes on where it was, nothing is left", async () => {
    await using server = await HostileRegistry.start();
    const random = Buffer.from(Array.from({ length: 60_000 }, () => Math.random().toString(36)).join(""));
    mkdirSync(join(work, "big"), { recursive: true });
    writeFileSync(join(work, "big/file"), random);
    const big = writeArchive(join(work, "big.tar"), { tag: "big:1", layers: [join(work, "big")] });
    await wherry("load", "-i", big.path);
    const name = `${registry.host}/big:1`;
    await wherry("tag", "big:1", name);
    await wherry("push", name);
    const layer = (await remote(name)).layers[0]!;
    const blob = Buffer.from(await (await fetch(`http://${registry.host}/v2/big/blobs/${layer}`)).arrayBuffer());
    server.image("1", [{ blob, diffId: big.diffIds[0]! }]);
    const half = Math.floor(blob.length / 2);
    server.tricks.push((request, response, path) => {
      if (!path.endsWith(layer) || request.headers.range !== undefined) return false;
      response.writeHead(200, { "content-length": blob.length });
      response.write(blob.subarray(0, half));
      return true;
    });
    await wherry("rmi", "-f", "big:1", name);
    const pulling = run([wherryPath, "pull", `${server.host}/x:1`], { env });
    const partials = join(daemon.dataRoot, "registry/partial");
    await eventually(
      () => readdirSync(partials),
      (names) => names.length === 1,
    );
    await new Promise((resolve) => setTimeout(resolve, 300));
    await daemon.kill("SIGKILL");
    expect((await pulling).code).not.toBe(0);
    await daemon.start();
    expect(await wherry("images", "-q")).toBe("");
    server.seen.length = 0;
    await wherry("pull", `${server.host}/x:1`);
    expect(server.seen.filter(({ path }) => path.endsWith(layer)).map(({ range }) => range)).toEqual([`bytes=${half}-`]);
    expect(readdirSync(partials)).toEqual([]);
    // A push that is killed between its layers: what the registry has is not sent again.
    await wherry("tag", `${server.host}/x:1`, `${other.host}/resumed:1`);
    const pushing = run([wherryPath, "push", `${other.host}/resumed:1`], { env });
    await eventually(
      () => other.requests("POST", "/v2/resumed/blobs/uploads/").length,
      (count) => count > 0,
    );
    await daemon.kill("SIGKILL");
    await pushing;
    // Where the layer came from gives all of it now: a push that was killed early would wait for the rest half a minute.
    server.tricks.length = 0;
    await daemon.start();
    await wherry("push", `${other.host}/resumed:1`);
    expect((await remote(`${other.host}/resumed:1`)).layers).toEqual([layer]);
    expect(await wherry("system", "check")).not.toMatch(/damaged|orphan/);
    await wherry("rmi", "-f", `${server.host}/x:1`, `${other.host}/resumed:1`);
  });

  test("manifest lists: made of images in the registry, annotated, pushed, inspected by docker's client and ours", async () => {
    await wherry("load", "-i", archive.path);
    for (const tag of ["amd64", "arm64"]) {
      await wherry("tag", "busybox", `${registry.host}/parts/box:${tag}`);
      await wherry("push", `${registry.host}/parts/box:${tag}`);
    }
    const list = `${registry.host}/lists/box:1`;
    const [one, two] = [`${registry.host}/parts/box:amd64`, `${registry.host}/parts/box:arm64`] as const;
    expect(await wherry("manifest", "create", list, one, two)).toBe(`Created manifest list ${list}`);
    expect((await run([wherryPath, "manifest", "create", list, one], { env })).stderr).toContain(
      "refusing to amend an existing manifest list with no --amend flag",
    );
    await wherry("manifest", "annotate", "--arch", "arm64", "--variant", "v8", list, two);
    const local = JSON.parse(await wherry("manifest", "inspect", list)) as { manifests: { platform: object }[] };
    expect(local.manifests.map(({ platform }) => platform)).toEqual([
      { architecture: "amd64", os: "linux" },
      { architecture: "arm64", os: "linux", variant: "v8" },
    ]);
    const digest = await wherry("manifest", "push", "--purge", list);
    expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/);
    const pushed = JSON.parse(await wherry("manifest", "inspect", list)) as unknown;
    expect(pushed).toMatchObject({ mediaType: "application/vnd.docker.distribution.manifest.list.v2+json", manifests: local.manifests });
    expect(JSON.parse(await ok(["docker", "manifest", "inspect", "--insecure", list], { env }))).toEqual(pushed);
    expect(await wherry("pull", list)).toContain(`Digest: ${digest}`);
    // docker's own client makes one of what we have pushed.
    const theirs = `${registry.host}/parts/box:theirs`;
    await ok(["docker", "manifest", "create", "--insecure", theirs, one], { env });
    expect(await ok(["docker", "manifest", "push", "--insecure", theirs], { env })).toMatch(/^sha256:/);
    expect(await wherry("pull", theirs)).toContain("Status: Downloaded newer image");
    expect((await run([wherryPath, "manifest", "rm", list], { env })).stderr).toContain(`No such manifest: ${list}`);
  });

  test("copied from registry to registry: all platforms, attestations and signatures, nothing stored here", async () => {
    await wherry("load", "-i", archive.path);
    const name = `${registry.host}/whole/box:1`;
    await wherry("tag", "busybox", name);
    await wherry("push", name);
    const image = await remote(name);
    await wherry("manifest", "create", `${registry.host}/whole/box:list`, name);
    const index = await wherry("manifest", "push", `${registry.host}/whole/box:list`);
    // What a signer would put beside it.
    await wherry("tag", "busybox", `${registry.host}/whole/box:${index.replace(":", "-")}.sig`);
    await wherry("push", `${registry.host}/whole/box:${index.replace(":", "-")}.sig`);
    // A registry that keeps no account of referrers has an index of them under a tag.
    const about = { mediaType: image.mediaType, digest: image.digest, size: 1 };
    const index11 = JSON.stringify({ schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: [about] });
    const referrers = `${registry.host}/v2/whole/box/manifests/${index.replace(":", "-")}`;
    await ok(["curl", "-fsS", "-X", "PUT", "-H", "Content-Type: application/vnd.oci.image.index.v1+json", "--data-binary", index11, referrers]);
    await wherry("image", "prune", "-a", "-f");
    const to = `${other.host}/copied/box`;
    expect(await wherry("image", "copy", "-q", `${registry.host}/whole/box:list`, `${to}:list`)).toBe(index);
    expect(JSON.parse(await wherry("manifest", "inspect", `${to}:list`))).toEqual(
      JSON.parse(await wherry("manifest", "inspect", `${registry.host}/whole/box:list`)),
    );
    expect(await remote(`${to}:${index.replace(":", "-")}.sig`)).toEqual(image);
    expect(
      await ok([
        "curl",
        "-fsS",
        "-H",
        "Accept: application/vnd.oci.image.index.v1+json",
        referrers.replace(`${registry.host}/v2/whole`, `${other.host}/v2/copied`),
      ]),
    ).toBe(index11);
    expect(await wherry("images", "-q")).toBe("");
    expect(readdirSync(join(daemon.dataRoot, "registry/partial"))).toEqual([]);
    const again = other.requests("PATCH").length;
    await wherry("image", "copy", `${registry.host}/whole/box:list`, `${to}:again`);
    expect(other.requests("PATCH")).toHaveLength(again);
  });
});
