/**
 * The same archives in dockerd 20.10 and here: ids, layers, sizes, history, and what rmi says have to be equal.
 * @module
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { imageHistory, imageInspect } from "#api/server/shape/image.ts";
import { openContentStore } from "#content/blob-store.ts";
import { bootstrapImage, type ImageStore, openImageStore } from "#image/mod.ts";
import type { Helper } from "#linux/helper.ts";
import { startHelper } from "#linux/helper-client.ts";
import { openLayerStore } from "#unionfs/layer-store.ts";
import type { StorageDriver } from "#unionfs/mod.ts";
import { openDriver } from "#unionfs/open-driver.ts";
import { directoriesOf } from "#unionfs/trees.ts";
import { configOf, dockerArchive, type FixtureImage, gzip, rootLayer, streamOf, tarOf } from "../fixtures.ts";
import { nativeHelper } from "../suites/native-helper.ts";

const whyNot = process.getuid?.() !== 0 ? "not root" : existsSync("/usr/sbin/dockerd") ? undefined : "dockerd is not installed (apt-get install docker.io)";
if (whyNot !== undefined) console.warn(`skipped: comparison with dockerd (${whyNot})`);

let root: string;
let dockerd: ChildProcess;
let socketPath: string;
let helper: Helper;
let driver: StorageDriver;
let store: ImageStore;

interface Answer {
  readonly status: number;
  readonly body: Buffer;
  readonly json: <T>() => T;
}

function docker(method: string, path: string, body?: Buffer | object): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const bytes = body === undefined || Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
    const type = Buffer.isBuffer(body) ? "application/x-tar" : "application/json";
    const req = request(
      { socketPath, method, path: `/v1.41${path}`, headers: bytes === undefined ? {} : { "content-type": type, "content-length": bytes.length } },
      (res) => {
        const chunks: Buffer[] = [];
        res.on("data", (chunk: Buffer) => chunks.push(chunk));
        res.on("error", reject);
        res.on("end", () => {
          const all = Buffer.concat(chunks);
          // The caller names the shape of the answer it asked for.
          resolve({ status: res.statusCode ?? 0, body: all, json: <T>() => JSON.parse(all.toString()) as T });
        });
      },
    );
    req.on("error", reject);
    req.end(bytes);
  });
}

async function startDockerd(): Promise<void> {
  socketPath = join(root, "docker.sock");
  const env: NodeJS.ProcessEnv = { ...process.env };
  delete env["DOCKER_HOST"];
  const args = [
    "--data-root",
    join(root, "docker"),
    "--exec-root",
    join(root, "docker-run"),
    "--pidfile",
    join(root, "pid"),
    "-H",
    `unix://${socketPath}`,
    "--bridge",
    "none",
    "--iptables=false",
  ];
  dockerd = spawn("/usr/sbin/dockerd", args, { env, stdio: "ignore" });
  for (let tries = 0; ; tries++) {
    try {
      if ((await docker("GET", "/_ping")).status === 200) return;
    } catch (error) {
      if (tries > 300 || dockerd.exitCode !== null) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function loadBoth(archive: Buffer): Promise<void> {
  const answer = await docker("POST", "/images/load?quiet=1", archive);
  expect(answer.body.toString()).not.toContain('"error"');
  await store.load(streamOf(archive, 64 * 1024), () => {});
}

interface Inspected {
  readonly Id: string;
  readonly RepoTags: string[];
  readonly Size: number;
  readonly Created: string;
  readonly RootFS: object;
  readonly Config: object;
}

/** What both say of an image. */
async function expectSame(name: string): Promise<void> {
  const theirs = (await docker("GET", `/images/${name}/json`)).json<Inspected>();
  const image = await store.get(name);
  const ours = imageInspect(image, 41, "overlay2") as unknown as Inspected;
  for (const key of [
    "Id",
    "RepoTags",
    "Size",
    "Created",
    "RootFS",
    "Config",
    "Architecture",
    "Os",
    "Author",
    "Comment",
    "DockerVersion",
    "VirtualSize",
    "Parent",
  ] as const) {
    expect({ [key]: ours[key as keyof Inspected] }).toEqual({ [key]: theirs[key as keyof Inspected] });
  }
  expect(imageHistory(image)).toEqual((await docker("GET", `/images/${name}/history`)).json());
}

describe.skipIf(whyNot !== undefined)("beside dockerd", () => {
  beforeAll(async () => {
    root = await mkdtemp("/tmp/wherry-dockerd-");
    mkdirSync(join(root, "run"), { mode: 0o700 });
    helper = await startHelper({ helperPath: nativeHelper(), execRoot: join(root, "run"), log: (line) => console.error(`helper: ${line}`) });
    driver = await openDriver("overlay2", { root: join(root, "data"), helper });
    const layers = await openLayerStore({ root: join(root, "data"), driver, helper });
    store = await openImageStore({
      root: join(root, "data"),
      content: await openContentStore(join(root, "data")),
      layers,
      log: (level, message) => console.error(level, message),
    });
    await startDockerd();
  });
  afterAll(async () => {
    const ended = new Promise((resolve) => dockerd.once("exit", resolve));
    dockerd.kill("SIGTERM");
    await ended;
    await driver.idle();
    await helper.close();
    await rm(root, { recursive: true });
  });

  const base = rootLayer();
  const upper = tarOf([
    { name: "etc", type: "dir" },
    { name: "etc/.wh.motd", data: "" },
    { name: "etc/new", data: "new".repeat(1000) },
    { name: "deep", type: "dir" },
    { name: `deep/${"long-name-".repeat(12)}`, data: "x" },
  ]);
  const image: FixtureImage = { layers: [base, upper], tags: ["app:1", "app:2"] };
  const full: FixtureImage = {
    layers: [base, upper, base],
    tags: ["localhost:5000/team/app:v1"],
    config: {
      author: "someone",
      comment: "a comment",
      docker_version: "1.2.3",
      variant: "v8",
      architecture: "arm64",
      config: {
        Hostname: "h",
        User: "1:1",
        ExposedPorts: { "80/tcp": {} },
        Env: ["A=b"],
        Cmd: ["-c", "true"],
        Healthcheck: { Test: ["CMD", "true"], Interval: 1_000_000_000, Retries: 2 },
        Volumes: { "/data": {} },
        WorkingDir: "/w",
        Entrypoint: ["sh"],
        OnBuild: ["RUN x"],
        Labels: { a: "b" },
        StopSignal: "SIGINT",
        StopTimeout: 3,
        Shell: ["/bin/sh"],
      },
      history: [
        { created: "2024-01-01T00:00:00Z", created_by: "one" },
        { created: "2024-01-02T00:00:00Z", created_by: "nothing", empty_layer: true, comment: "c" },
        { created: "2024-01-03T00:00:00Z", created_by: "two" },
        { created: "2024-01-04T00:00:00.123456789Z", created_by: "three" },
      ],
    },
  };

  it("images are the same", async () => {
    await loadBoth(dockerArchive([image, full]));
    for (const name of ["app:1", "app:2", "localhost:5000/team/app:v1"]) await expectSame(name);
    await loadBoth(gzip(dockerArchive([{ layers: [base], tags: ["gz:1"], compress: gzip }])));
    await expectSame("gz:1");
  });

  it("what docker saves is the same here, and the other way round", async () => {
    const saved = (await docker("GET", "/images/get?names=app%3A1&names=localhost%3A5000%2Fteam%2Fapp%3Av1")).body;
    const ids = await Promise.all(["app:1", "localhost:5000/team/app:v1"].map(async (name) => (await store.get(name)).id));
    for (const { id } of await store.list()) await store.remove(id, { force: true, prune: true, inUse: () => [] });
    await store.load(streamOf(saved, 64 * 1024), () => {});
    expect(await Promise.all(["app:1", "localhost:5000/team/app:v1"].map(async (name) => (await store.get(name)).id))).toEqual(ids);
    const ours = Buffer.concat(await (await store.save(["app:1", "localhost:5000/team/app:v1"])).toArray());
    for (const id of ids) expect((await docker("DELETE", `/images/${id}?force=1`)).status).toBe(200);
    expect((await docker("POST", "/images/load", ours)).body.toString()).toContain("Loaded image: app:1");
    await expectSame("app:1");
    await expectSame("localhost:5000/team/app:v1");
  });

  it.skipIf(!existsSync("/bin/busybox"))("a base image is the same", async () => {
    await bootstrapImage({ store, what: "busybox", workDir: root, openTree: helper.openTree.bind(helper), onProgress: () => {} });
    const saved = Buffer.concat(await (await store.save(["busybox"])).toArray());
    await docker("POST", "/images/load", saved);
    await expectSame("busybox:latest");
  });

  it("a Debian made of packages is the same", async (context) => {
    const lines: string[] = [];
    const options = { store, workDir: root, openTree: helper.openTree.bind(helper), onProgress: (line: string) => lines.push(line) };
    const made = await bootstrapImage({ ...options, what: "debian" }).catch((error: Error) => error);
    // No mirror within reach, or no debootstrap: what cannot be run here is no failure of ours.
    if (made instanceof Error) {
      console.warn(`skipped: a Debian image (${made.message})`);
      return context.skip();
    }
    expect(made.repoTags).toEqual(["debian:bookworm"]);
    expect(lines.some((line) => line.startsWith("I: Retrieving"))).toBe(true);
    const [top] = directoriesOf(await driver.mounts(made.chainId!));
    const look = (script: string) => execFileSync("chroot", [top!, "/bin/bash", "-c", script], { encoding: "utf8" });
    expect(look("cat /etc/debian_version; dpkg --audit; id root; ls /dev; ls /var/lib/apt/lists; test -e /etc/hostname || echo none")).toMatch(
      /^12\.[0-9]+\nuid=0\(root\) gid=0\(root\) groups=0\(root\)\n(auxfiles\n)?partial\nnone\n$/,
    );
    await docker("POST", "/images/load", Buffer.concat(await (await store.save(["debian"])).toArray()));
    await expectSame("debian:bookworm");
    await store.remove("debian:bookworm", { force: true, prune: true, inUse: () => [] });
  });

  it("an imported tree has the same layer", async () => {
    await docker("POST", "/images/create?fromSrc=-&repo=tree&tag=1", base);
    await store.import(streamOf(base), { reference: "tree:1" });
    const theirs = (await docker("GET", "/images/tree:1/json")).json<{ RootFS: { Layers: string[] }; Size: number; Comment: string }>();
    const ours = await store.get("tree:1");
    expect({ layers: ours.diffIds, size: ours.size, comment: ours.config.comment }).toEqual({
      layers: theirs.RootFS.Layers,
      size: theirs.Size,
      comment: theirs.Comment,
    });
  });

  it("rmi does and says the same", async () => {
    const archive = dockerArchive([{ layers: [base, tarOf([{ name: "rmi" }])], tags: ["rmi:1"] }]);
    const remove = async (name: string, force: boolean, users: readonly string[]) => {
      const theirs = await docker("DELETE", `/images/${name}?force=${force ? 1 : 0}`);
      const ours = await store
        .remove(name, { force, prune: true, inUse: () => users.map((id) => ({ id, running: false })) })
        .catch((error: Error) => ({ message: error.message }));
      expect(ours).toEqual(theirs.json());
      return theirs.status;
    };
    await loadBoth(archive);
    const { id } = await store.get("rmi:1");
    const tag = async (name: string) => {
      await docker("POST", `/images/rmi:1/tag?repo=${name}&tag=1`);
      await store.tag(id, `${name}:1`);
    };
    const container = (await docker("POST", "/containers/create", { Image: "rmi:1", Cmd: ["x"] })).json<{ Id: string }>().Id;
    const used = [container];
    expect(await remove("rmi:1", false, used)).toBe(409);
    expect(await remove(id, false, used)).toBe(409);
    expect(await remove(id.slice(7, 19), false, used)).toBe(409);
    await tag("rmi2");
    expect(await remove(id, false, used)).toBe(409);
    expect(await remove("rmi2:1", false, used)).toBe(200);
    await tag("rmi3");
    expect(await remove("rmi:1", true, used)).toBe(200);
    await docker("DELETE", `/containers/${container}`);
    await docker("POST", "/images/rmi3:1/tag?repo=rmi&tag=1");
    await store.tag(id, "rmi:1");
    expect(await remove(id, false, [])).toBe(409);
    expect(await remove("nope", false, [])).toBe(404);
    // Newer versions say which part of the name is meant, and so does wherry.
    expect((await docker("DELETE", "/images/Nope")).json<{ message: string }>().message.replace(" must", " (library/Nope) must")).toBe(
      await store.get("Nope").catch((error: Error) => error.message),
    );
    expect(await remove("rmi3:1", false, [])).toBe(200);
    expect(await remove(id.slice(7, 15), true, [])).toBe(200);
  });

  it("what docker refuses is refused here", async () => {
    // Of a layer that it has already, docker does not look at what the archive holds.
    const fresh = rootLayer("never seen");
    const config = configOf({ layers: [fresh] });
    const manifest = (value: object) => ({ name: "manifest.json", data: JSON.stringify([value]) });
    const cases = [
      [manifest({ Config: "c", Layers: [] }), { name: "c", data: config }],
      [manifest({ Config: "c", Layers: ["l"] }), { name: "c", data: config }, { name: "l", data: upper }],
      [manifest({ Config: "c", Layers: ["l"], RepoTags: ["UP:1"] }), { name: "c", data: config }, { name: "l", data: fresh }],
    ];
    for (const files of cases) {
      const before = (await store.list()).length;
      const archive = tarOf(files);
      expect((await docker("POST", "/images/load?quiet=1", archive)).body.toString()).toMatch(/"error"|"message"/);
      await expect(store.load(streamOf(archive), () => {})).rejects.toThrow();
      expect((await store.list()).length).toBe(before);
    }
  });
});
