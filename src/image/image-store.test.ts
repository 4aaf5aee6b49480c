import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openContentStore } from "#content/blob-store.ts";
import { digestOf, type ImageID } from "#core/digest.ts";
import { configOf, dockerArchive, type FixtureImage, gzip, ociLayout, rootLayer, streamOf, tarOf } from "../../test/fixtures.ts";
import { openImageStore } from "./image-store.ts";
import type { ImageStore, LoadEvent } from "./mod.ts";
import { MemoryLayers } from "./testing/memory-layers.ts";

let root: string;
let layers: MemoryLayers;
let store: ImageStore;
const logged: string[] = [];

async function open(): Promise<ImageStore> {
  return openImageStore({ root, content: await openContentStore(root), layers, log: (level, message) => logged.push(`${level} ${message}`) });
}

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "image-"));
  layers = new MemoryLayers();
  logged.length = 0;
  store = await open();
});
afterEach(async () => {
  await rm(root, { recursive: true });
});

async function load(archive: Buffer, cut = 1000): Promise<LoadEvent[]> {
  const events: LoadEvent[] = [];
  await store.load(streamOf(archive, cut), (event) => events.push(event));
  return events;
}

/** Nothing of a load that failed is left, in memory or on disk. */
async function expectNothing(): Promise<void> {
  expect(await store.list()).toEqual([]);
  expect([...layers.layers.keys()]).toEqual([]);
  expect(await readdir(join(root, "image/ingest"))).toEqual([]);
  expect(await readdir(join(root, "content/ingest"))).toEqual([]);
  expect(await readdir(join(root, "content/blobs/sha256"))).toEqual([]);
  expect(await (await open()).list()).toEqual([]);
}

const base = rootLayer();
const upper = tarOf([{ name: "etc/extra", data: "more" }]);
const image: FixtureImage = { layers: [base, upper], tags: ["app:1"] };
const idOf = (fixture: FixtureImage): ImageID => digestOf(configOf(fixture));

const none = { force: false, prune: true, inUse: () => [] };

describe("loading", () => {
  it("shows an image only when it can be read", async () => {
    const loading = load(dockerArchive([image]));
    let done = false;
    const ended = loading.then(() => (done = true));
    const seen = new Set<string | undefined>();
    while (!done) {
      seen.add((await store.find(idOf(image)))?.id);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await ended;
    seen.add((await store.find(idOf(image)))?.id);
    expect([...seen].filter((id) => id !== undefined)).toEqual([idOf(image)]);
  });

  it.each([
    ["docker-archive", dockerArchive([image])],
    ["docker-archive, gzip", gzip(dockerArchive([image]))],
    ["docker-archive, layers gzip", dockerArchive([{ ...image, compress: gzip }])],
    ["OCI layout", ociLayout([image], { containerdName: "docker.io/library/app:1", refName: "1" })],
    ["OCI layout, layers gzip", ociLayout([{ ...image, compress: gzip }], { refName: "docker.io/library/app:1" })],
    [
      "OCI layout, nested index",
      ociLayout([image], { nested: true, refName: "app:1", attestation: true, platforms: [{ os: "linux", architecture: "amd64" }] }),
    ],
  ])("takes %s", async (_name, archive) => {
    const events = await load(archive);
    expect(events.at(-1)).toEqual({ kind: "loaded", reference: "app:1", id: idOf(image) });
    // They are unpacked at once, so whichever comes first is told first.
    expect(
      events
        .filter((event) => event.kind === "layer")
        .map((event) => event.id)
        .sort(),
    ).toEqual([digestOf(base), digestOf(upper)].sort());
    const got = await store.get("app:1");
    expect(got).toMatchObject({
      id: idOf(image),
      repoTags: ["app:1"],
      repoDigests: [],
      diffIds: [digestOf(base), digestOf(upper)],
      layerSizes: [base.length, upper.length],
    });
    expect(Buffer.from(got.rawConfig).equals(configOf(image))).toBe(true);
    expect(got.size).toBe(base.length + upper.length);
    expect(await readdir(join(root, "image/ingest"))).toEqual([]);
    expect((await (await open()).get(idOf(image))).repoTags).toEqual(["app:1"]);
  });

  it("takes several images that share a layer, and those without a name", async () => {
    const other: FixtureImage = { layers: [base], config: { author: "x" } };
    const events = await load(dockerArchive([image, other]));
    expect(events.filter((event) => event.kind === "loaded")).toEqual([
      { kind: "loaded", reference: "app:1", id: idOf(image) },
      { kind: "loaded", reference: undefined, id: idOf(other) },
    ]);
    expect(layers.layers.size).toBe(2);
    expect((await store.list()).length).toBe(2);
  });

  it("moves a name to the image that was loaded last", async () => {
    const other: FixtureImage = { layers: [base], tags: ["app:1"] };
    await load(dockerArchive([image]));
    expect((await load(dockerArchive([other]))).at(-1)).toEqual({ kind: "loaded", reference: "app:1", id: idOf(other), replaced: idOf(image) });
    expect((await load(dockerArchive([other]))).at(-1)).not.toHaveProperty("replaced");
    expect((await store.get("app:1")).id).toBe(idOf(other));
    expect((await store.get(idOf(image))).repoTags).toEqual([]);
  });

  it("chooses this machine's platform in an index", async () => {
    const arm: FixtureImage = { layers: [base], config: { architecture: "arm64" } };
    const amd: FixtureImage = { layers: [base], config: { architecture: "amd64" } };
    const v3: FixtureImage = { layers: [base], config: { architecture: "amd64", variant: "v3" } };
    const platforms = [
      { os: "linux", architecture: "arm64" },
      { os: "linux", architecture: "amd64", variant: "v3" },
      { os: "linux", architecture: "amd64" },
    ];
    const wanted = process.arch === "arm64" ? arm : amd;
    for (const nested of [true, false]) {
      await load(ociLayout([arm, v3, amd], { platforms, nested, refName: "multi:1" }));
      expect((await store.get("multi:1")).id).toBe(idOf(wanted));
      await store.remove("multi:1", none);
    }
    await load(ociLayout([arm, v3, amd], { platforms }));
    expect((await store.list()).map(({ id }) => id)).toEqual([idOf(wanted)]);
  });

  it("takes what is there of an index whose other platforms were left out", async () => {
    const arm: FixtureImage = { layers: [tarOf([{ name: "arm" }])], config: { architecture: "arm64" } };
    const platforms = [
      { os: "linux", architecture: "amd64" },
      { os: "linux", architecture: "arm64" },
    ];
    const whole = ociLayout([arm], { platforms: platforms.slice(1) });
    const manifestHex = /sha256:([0-9a-f]{64})/.exec(whole.toString("latin1").slice(whole.indexOf('"manifests"')))![1]!;
    await load(ociLayout([{ layers: [base] }, arm], { platforms, nested: true, refName: "left:1", leaveOut: [manifestHex] }));
    expect((await store.get("left:1")).config.architecture).toBe("amd64");
  });

  it("refuses what only other machines can run", async () => {
    const platforms = [
      { os: "linux", architecture: "s390x" },
      { os: "linux", architecture: "ppc64le" },
    ];
    await expect(load(ociLayout([{ layers: [base] }, { layers: [upper] }], { platforms, nested: true }))).rejects.toMatchObject({
      message: expect.stringContaining("linux/s390x, linux/ppc64le"),
    });
    await expectNothing();
  });

  it("does not take a bare tag for a name", async () => {
    await load(ociLayout([image], { refName: "latest" }));
    expect((await store.get(idOf(image))).repoTags).toEqual([]);
  });
});

describe("an archive that is not right", () => {
  const manifestOf = (value: unknown, ...rest: { name: string; data: string | Buffer }[]) =>
    tarOf([...rest, { name: "manifest.json", data: JSON.stringify(value) }]);
  const config = configOf({ layers: [base] });
  it.each<[string, Buffer, string]>(
    [
      ["no manifest", tarOf([{ name: "bin/sh", data: "x" }]), "neither a manifest.json (docker save) nor an index.json (OCI layout)"],
      ["nothing", Buffer.alloc(0), ""],
      ["no tar", Buffer.from("hello world".repeat(100)), ""],
      ["a manifest that is no JSON", tarOf([{ name: "manifest.json", data: "{" }]), "not valid JSON"],
      ["an empty manifest", manifestOf([]), "names no image"],
      ["a manifest that is no list", manifestOf({}), "not a list"],
      ["no Config", manifestOf([{ Layers: [] }]), "without Config"],
      ["a config that is missing", manifestOf([{ Config: "c.json", Layers: [] }]), '"c.json"'],
      ["a config that is no JSON", manifestOf([{ Config: "c.json", Layers: [] }], { name: "c.json", data: "x" }), "not valid JSON"],
      ["a config without rootfs", manifestOf([{ Config: "c.json", Layers: [] }], { name: "c.json", data: "{}" }), "no RootFS key"],
      [
        "a layer that is missing",
        manifestOf([{ Config: "c.json", Layers: ["l.tar"] }], { name: "c.json", data: config }),
        'layer 0 is missing from the archive: "l.tar"',
      ],
      [
        "too few layers",
        manifestOf([{ Config: "c.json", Layers: [] }], { name: "c.json", data: config }),
        "invalid manifest, layers length mismatch: expected 1, got 0",
      ],
      [
        "a layer of another digest",
        manifestOf([{ Config: "c.json", Layers: ["l.tar"] }], { name: "c.json", data: config }, { name: "l.tar", data: upper }),
        `expected ${digestOf(base)}`,
      ],
      [
        "a good layer, and one of another digest",
        manifestOf(
          [{ Config: "c.json", Layers: ["1", "2"] }],
          { name: "c.json", data: configOf({ layers: [base, upper] }) },
          { name: "1", data: base },
          { name: "2", data: base },
        ),
        "layer 1",
      ],
      [
        "a good image, and a bad one",
        manifestOf(
          [
            { Config: "c.json", Layers: ["1"], RepoTags: ["a:1"] },
            { Config: "c.json", Layers: ["2"], RepoTags: ["a:2"] },
          ],
          { name: "c.json", data: config },
          { name: "1", data: base },
          { name: "2", data: upper },
        ),
        "layer 0",
      ],
      [
        "a config whose name says another digest",
        manifestOf([{ Config: `${"0".repeat(64)}.json`, Layers: ["l"] }], { name: `${"0".repeat(64)}.json`, data: config }, { name: "l", data: base }),
        "it is damaged",
      ],
      [
        "a bad tag",
        manifestOf([{ Config: "c.json", Layers: ["l"], RepoTags: ["App:1"] }], { name: "c.json", data: config }, { name: "l", data: base }),
        "must be lowercase",
      ],
      [
        "a tag without a tag",
        manifestOf([{ Config: "c.json", Layers: ["l"], RepoTags: ["app"] }], { name: "c.json", data: config }, { name: "l", data: base }),
        'invalid tag "app"',
      ],
      [
        "an image for Windows",
        manifestOf(
          [{ Config: "c.json", Layers: ["l"] }],
          { name: "c.json", data: configOf({ layers: [base], config: { os: "windows" } }) },
          { name: "l", data: base },
        ),
        'operating system "windows"',
      ],
      [
        "Env that is no list",
        manifestOf([{ Config: "c.json", Layers: [] }], { name: "c.json", data: JSON.stringify({ rootfs: { type: "layers" }, config: { Env: "x" } }) }),
        '"Env" is not a list of strings',
      ],
      ["a blob of another digest", tarOf([{ name: `blobs/sha256/${"0".repeat(64)}`, data: "x" }]), "it is damaged"],
      ["a name that leads out", tarOf([{ name: "../manifest.json", data: "[]" }]), '"../manifest.json" leads out'],
      ["an absolute name", tarOf([{ name: "/manifest.json", data: "[]" }]), '"/manifest.json" leads out'],
      [
        "a link that leads out",
        tarOf([{ name: "a/manifest.json", type: "symlink", linkname: "../../etc/passwd" }]),
        '"a/manifest.json" leads out of the archive: it is a link to "a/../../etc/passwd"',
      ],
      ["an absolute link", tarOf([{ name: "a", type: "symlink", linkname: "/etc/passwd" }]), '"/etc/passwd"'],
      ["a hard link that leads out", tarOf([{ name: "a", type: "link", linkname: "../x" }]), '"../x"'],
      [
        "links in a circle",
        tarOf([
          { name: "manifest.json", type: "symlink", linkname: "b" },
          { name: "b", type: "link", linkname: "manifest.json" },
        ]),
        "leads in a circle",
      ],
      ["a device", tarOf([{ name: "manifest.json", type: "char", major: 1, minor: 3 }]), "char special file"],
      ["a manifest of 5 MiB", tarOf([{ name: "manifest.json", data: Buffer.alloc(5 << 20, "[") }]), "at most 4194304"],
      ["an index without images", tarOf([{ name: "index.json", data: JSON.stringify({ schemaVersion: 2, manifests: [] }) }]), "names no image"],
      ["a descriptor without a digest", tarOf([{ name: "index.json", data: JSON.stringify({ manifests: [{ mediaType: "x" }] }) }]), "invalid digest"],
      [
        "something that is no image",
        tarOf([{ name: "index.json", data: JSON.stringify({ manifests: [{ mediaType: "text/plain", digest: digestOf("x"), size: 1 }] }) }]),
        'media type "text/plain"',
      ],
      ["a manifest that is missing", ociLayout([image], { leaveOut: ["blobs/sha256"] }), "missing from the archive"],
    ].filter((row) => row.length === 3) as [string, Buffer, string][],
  )("%s: is refused, and leaves nothing", async (_name, archive, message) => {
    await expect(load(archive)).rejects.toMatchObject({
      code: expect.stringMatching(/^(corrupt|invalid|unsupported|not-found)$/),
      message: expect.stringContaining(message),
    });
    await expectNothing();
  });

  it("refuses a size that is not the blob's", async () => {
    const archive = Buffer.from(ociLayout([image]));
    const at = archive.lastIndexOf('"size":', archive.indexOf('"annotations"')) + '"size":'.length;
    archive.write("9", at);
    await expect(load(archive)).rejects.toMatchObject({ code: "corrupt", message: expect.stringMatching(/has \d+ bytes, expected 9/) });
    await expectNothing();
  });

  it("leaves nothing wherever it is cut off", async () => {
    for (const archive of [dockerArchive([image]), gzip(dockerArchive([image])), ociLayout([image])]) {
      // All but the zero blocks that end a tar, which a reader need not see to the last byte.
      const end = archive[0] === 0x1f ? archive.length - 1 : archive.length - 1024;
      for (let at = 0; at < end; at += Math.max(1, Math.floor(end / 40))) {
        await expect(load(archive.subarray(0, at)), `cut at ${at} of ${archive.length}`).rejects.toMatchObject({
          code: expect.stringMatching(/^(corrupt|invalid)$/),
        });
      }
      await expectNothing();
    }
  }, 60_000);

  it("is refused with any byte changed, or is the same image", async () => {
    const archive = dockerArchive([{ ...image, compress: gzip }]);
    await fc.assert(
      fc.asyncProperty(fc.nat(archive.length - 1025), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const changed = Buffer.from(archive);
        changed[at]! ^= flip;
        const outcome = await load(changed).then(
          () => "loaded",
          (error: { code?: string }) => error.code,
        );
        expect(["loaded", "corrupt", "invalid", "unsupported"]).toContain(outcome);
        // What a change cannot be seen in (owner and time of a member, an unused file, the tag's letters) leaves the image's own bytes alone.
        for (const { id } of await store.list()) expect(id).toBe(idOf(image));
        for (const { id } of await store.list()) await store.remove(id, { ...none, force: true });
        expect(layers.layers.size).toBe(0);
      }),
      { numRuns: 150 },
    );
  }, 60_000);

  it("leaves nothing of a source that fails or is cancelled", async () => {
    async function* failing() {
      yield dockerArchive([image]).subarray(0, 3000);
      throw new Error("connection lost");
    }
    await expect(store.load(failing(), () => {})).rejects.toThrow("connection lost");
    const cancel = new AbortController();
    const cancelled = store.load(streamOf(dockerArchive([image])), () => cancel.abort(), cancel.signal);
    await cancelled.catch((error: unknown) => expect(error).toMatchObject({ code: "cancelled" }));
    cancel.abort();
    await expect(store.load(streamOf(dockerArchive([image])), () => {}, cancel.signal)).rejects.toMatchObject({ code: "cancelled" });
  });
});

describe("finding", () => {
  beforeEach(() => load(dockerArchive([image, { layers: [base], tags: ["busybox:latest", "localhost:5000/a/b:v1"] }])));

  it("goes by name, id and the beginning of one", async () => {
    const id = idOf(image);
    for (const name of ["app:1", "docker.io/library/app:1", id, id.slice(7), id.slice(0, 15), id.slice(7, 19)]) expect((await store.get(name)).id).toBe(id);
    expect((await store.get("busybox")).repoTags).toEqual(["busybox:latest", "localhost:5000/a/b:v1"]);
    expect(await store.find("nope")).toBeUndefined();
    // The empty prefix, and one that fits both.
    expect(await store.find("sha256")).toBeUndefined();
  });

  it("says in docker's words what is not there", async () => {
    await expect(store.get("nope")).rejects.toMatchObject({ code: "not-found", message: "No such image: nope:latest" });
    await expect(store.get("nope:x")).rejects.toMatchObject({ message: "No such image: nope:x" });
    await expect(store.get("0".repeat(64))).rejects.toMatchObject({ message: `No such image: sha256:${"0".repeat(64)}` });
    await expect(store.get("Nope")).rejects.toMatchObject({
      code: "invalid",
      message: "invalid reference format: repository name (library/Nope) must be lowercase",
    });
  });
});

describe("naming and removing", () => {
  const id = idOf(image);
  beforeEach(() => load(dockerArchive([image])));
  const user = (running: boolean) => ({ ...none, inUse: () => [{ id: "c0ffee0123456789", running }] });

  it("tags", async () => {
    await store.tag(id, "other");
    await store.tag(id, "localhost:5000/x:v2");
    expect((await store.get("other:latest")).repoTags).toEqual(["app:1", "other:latest", "localhost:5000/x:v2"]);
    expect((await store.get(id)).lastTaggedNs).toBeGreaterThan(1_600_000_000_000_000_000n);
    await expect(store.tag(id, `x@${id}`)).rejects.toMatchObject({ code: "invalid", message: "refusing to create a tag with a digest reference" });
    await expect(store.tag(id, "sha256:abc")).rejects.toMatchObject({ message: "refusing to create an ambiguous tag using digest algorithm as name" });
    await expect(store.tag(digestOf("x"), "a")).rejects.toMatchObject({ code: "not-found" });
  });

  it("removes by name: the name, and the image with its last one", async () => {
    await store.tag(id, "other");
    expect(await store.remove("app:1", none)).toEqual([{ Untagged: "app:1" }]);
    const { chainIds } = await store.get(id);
    expect(await store.remove("other", none)).toEqual([{ Untagged: "other:latest" }, { Deleted: id }, { Deleted: chainIds[1] }, { Deleted: chainIds[0] }]);
    await expectNothing();
  });

  it("lists what there is while some are removed", async () => {
    for (let n = 0; n < 5; n++) await store.add(configOf({ layers: [base], config: { author: `${n}` } }));
    let gone = false;
    const pruning = store.prune({ all: true, used: new Set(), match: () => true }).finally(() => {
      gone = true;
    });
    for (; !gone; await new Promise((resolve) => setImmediate(resolve))) expect(await store.list()).toHaveLength(store.relations().length);
    expect((await pruning).deleted).not.toEqual([]);
    await expectNothing();
  });

  it("keeps the layers that another image needs", async () => {
    await load(dockerArchive([{ layers: [base], tags: ["base:1"] }]));
    const { chainIds } = await store.get(id);
    expect(await store.remove(id, none)).toEqual([{ Untagged: "app:1" }, { Deleted: id }, { Deleted: chainIds[1] }]);
    expect(layers.layers.size).toBe(1);
  });

  it("refuses in docker's words", async () => {
    const short = id.slice(7, 19);
    await expect(store.remove("app:1", user(false))).rejects.toMatchObject({
      code: "conflict",
      message: `conflict: unable to remove repository reference "app:1" (must force) - container c0ffee012345 is using its referenced image ${short}`,
    });
    await expect(store.remove(id, user(true))).rejects.toThrow(
      `conflict: unable to delete ${short} (cannot be forced) - image is being used by running container c0ffee012345`,
    );
    await expect(store.remove(id, { ...user(true), force: true })).rejects.toThrow("cannot be forced");
    await expect(store.remove(id, user(false))).rejects.toThrow(
      `conflict: unable to delete ${short} (must be forced) - image is being used by stopped container c0ffee012345`,
    );
    await store.tag(id, "other:1");
    await expect(store.remove(id, none)).rejects.toThrow(`conflict: unable to delete ${short} (must be forced) - image is referenced in multiple repositories`);
    await expect(store.remove("nope", none)).rejects.toMatchObject({ code: "not-found", message: "No such image: nope:latest" });
    expect((await store.get(id)).repoTags).toEqual(["app:1", "other:1"]);
  });

  it("forces what can be forced", async () => {
    expect(await store.remove("app:1", { ...user(true), force: true })).toEqual([{ Untagged: "app:1" }]);
    expect((await store.get(id)).repoTags).toEqual([]);
    await store.tag(id, "a:1");
    await store.tag(id, "b:1");
    expect(await store.remove(id.slice(7, 12), { ...none, force: true })).toEqual([
      { Untagged: "a:1" },
      { Untagged: "b:1" },
      { Deleted: id },
      expect.anything(),
      expect.anything(),
    ]);
    await expectNothing();
  });

  it("removes untagged parents as well, unless told not to", async () => {
    const child = async (name: string, parent: ImageID) => (await store.add(configOf({ layers: [base, upper], config: { author: name } }), { parent })).id;
    const middle = await child("middle", id);
    const top = await child("top", middle);
    await expect(store.remove(middle, none)).rejects.toThrow("(cannot be forced) - image has dependent child images");
    expect(await store.remove(top, none)).toEqual([{ Deleted: top }, { Deleted: middle }]);
    const again = await child("top", await child("middle", id));
    expect(await store.remove(again, { ...none, prune: false })).toEqual([{ Deleted: again }]);
  });

  it("prunes untagged images, or all unused ones", async () => {
    const dangling = await store.add(configOf({ layers: [base], config: { author: "d" } }));
    const all = { all: false, used: new Set<ImageID>(), match: () => true };
    expect(await store.prune({ ...all, match: () => false })).toEqual({ deleted: [], bytes: 0 });
    expect(await store.prune({ ...all, used: new Set([dangling.id]) })).toEqual({ deleted: [], bytes: 0 });
    expect(await store.prune(all)).toEqual({ deleted: [{ Deleted: dangling.id }], bytes: 0 });
    const pruned = await store.prune({ ...all, all: true });
    expect(pruned.deleted.slice(0, 2)).toEqual([{ Untagged: "app:1" }, { Deleted: id }]);
    expect(pruned.bytes).toBe(base.length + upper.length);
    await expectNothing();
  });
});

describe("importing and adding", () => {
  it("makes an image of one tar", async () => {
    const id = await store.import(streamOf(gzip(base)), {
      reference: "tree",
      message: "from a tree",
      changes: { Cmd: ["/bin/tool"] },
      platform: "linux/arm64",
      created: "2024-01-01T00:00:00Z",
    });
    const { config, repoTags, diffIds } = await store.get("tree");
    expect({ repoTags, diffIds }).toEqual({ repoTags: ["tree:latest"], diffIds: [digestOf(base)] });
    expect(config).toMatchObject({
      architecture: "arm64",
      os: "linux",
      created: "2024-01-01T00:00:00Z",
      comment: "from a tree",
      config: { Cmd: ["/bin/tool"] },
      history: [{ comment: "from a tree" }],
    });
    expect((await store.get(id)).id).toBe(id);
  });

  it("leaves nothing of a bad one", async () => {
    await expect(store.import(streamOf(gzip(base).subarray(0, 50)), { reference: "tree" })).rejects.toMatchObject({ code: "corrupt" });
    await expect(store.import(streamOf(base), { reference: "Tree" })).rejects.toMatchObject({ code: "invalid" });
    await expect(store.import(streamOf(base), { platform: "windows/amd64" })).rejects.toMatchObject({ code: "invalid" });
    await expectNothing();
  });

  it("refuses a config whose layers are not here", async () => {
    await expect(store.add(configOf(image))).rejects.toMatchObject({ code: "not-found" });
    await expectNothing();
  });
});

describe("saving", () => {
  it("gives what loads again as the same image, always the same bytes", async () => {
    await load(dockerArchive([image, { layers: [base], config: { author: "n" } }]));
    await store.tag(idOf(image), "app:2");
    const saved = Buffer.concat(await (await store.save(["app"])).toArray());
    expect(Buffer.concat(await (await store.save(["app:1", "app:2"])).toArray()).equals(saved)).toBe(true);
    const untagged = Buffer.concat(await (await store.save([idOf(image).slice(7, 20)])).toArray());
    await store.remove(idOf(image), { ...none, force: true });
    await load(untagged);
    expect((await store.get(idOf(image))).repoTags).toEqual([]);
    const events = await load(saved);
    expect(events.filter((event) => event.kind === "loaded").map((event) => event.reference)).toEqual(["app:1", "app:2"]);
    await expect(store.save(["nope"])).rejects.toMatchObject({ code: "not-found", message: "No such image: nope:latest" });
  });

  it("is an OCI layout as well", async () => {
    await load(dockerArchive([image]));
    const saved = Buffer.concat(await (await store.save(["app:1"])).toArray());
    await store.remove("app:1", none);
    const withoutManifest = Buffer.from(saved);
    // Rename manifest.json, so that only the layout is left.
    const at = withoutManifest.indexOf("manifest.json\0");
    const header = withoutManifest.subarray(at, at + 512);
    header.write("x", 0);
    const sum = Number.parseInt(header.toString("latin1", 148, 154), 8) + "x".charCodeAt(0) - "m".charCodeAt(0);
    header.write(sum.toString(8).padStart(6, "0"), 148);
    await load(withoutManifest);
    expect((await store.get("app:1")).id).toBe(idOf(image));
  });
});

describe("what a crash or a failing disk leaves", () => {
  it("is swept", async () => {
    await load(dockerArchive([image]));
    const state = JSON.parse(await (await import("node:fs/promises")).readFile(join(root, "image/images.json"), "utf8")) as {
      pending: string[];
      images: object;
      references: object;
    };
    // As after a crash between the blob and the name, and in the middle of an archive.
    await writeFile(join(root, "image/images.json"), JSON.stringify({ ...state, images: {}, references: {}, pending: [idOf(image)] }));
    await (await import("node:fs/promises")).mkdir(join(root, "image/ingest/left"));
    store = await open();
    await store.sweep();
    await expectNothing();
  });

  it("is told of, and does not take other images' layers along", async () => {
    await load(dockerArchive([image, { layers: [base], tags: ["base:1"] }]));
    await writeFile(join(root, "content/blobs/sha256", idOf(image).slice(7)), "damaged");
    store = await open();
    await expect(store.get("app:1")).rejects.toMatchObject({ code: "storage" });
    expect(logged.join()).toContain(`image ${idOf(image)} is damaged`);
    expect(store.relations().map(({ repoTags }) => repoTags)).toEqual(expect.arrayContaining([["app:1"], ["base:1"]]));
    expect((await store.damaged()).map(({ id }) => id)).toEqual([idOf(image)]);
    expect((await store.list()).map(({ repoTags }) => repoTags)).toEqual([["base:1"]]);
    await store.sweep();
    expect(layers.layers.size).toBe(2);
    await load(dockerArchive([image]));
    expect((await store.get("app:1")).id).toBe(idOf(image));
    await store.remove("app:1", none);
    expect(layers.layers.size).toBe(1);
  });

  it("refuses a file of names that it does not understand", async () => {
    await writeFile(join(root, "image/images.json"), '{"version":2}');
    await expect(open()).rejects.toMatchObject({ code: "storage" });
    await writeFile(join(root, "image/images.json"), '{"version":1,"images":{"x":{}}}');
    await expect(open()).rejects.toMatchObject({ code: "corrupt" });
  });
});
