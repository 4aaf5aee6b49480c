import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Digest, digestOf, hexOf } from "#core/digest.ts";
import { mediaTypes } from "#core/manifest.ts";
import { LayoutDirectory } from "./layout-directory.ts";
import { collectLayout, LayoutRun } from "./layout-garbage.ts";

describe("old blobs of a cache's directory", () => {
  let base = "";
  let root = "";
  let count = 0;
  beforeAll(async () => {
    base = await mkdtemp(join(tmpdir(), "wt-layout-"));
  });
  beforeEach(() => {
    root = join(base, String(++count));
  });
  afterAll(() => rm(base, { recursive: true, force: true }));

  const isThere = (content: string | Uint8Array) => existsSync(join(root, "blobs/sha256", hexOf(digestOf(Buffer.from(content)))));
  const described = (content: string, mediaType: string) => ({ mediaType, digest: digestOf(Buffer.from(content)), size: Buffer.byteLength(content) });
  const manifestOf = (config: string, ...layers: string[]) =>
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: described(config, "application/x"),
      layers: layers.map((layer) => described(layer, mediaTypes.ociLayer)),
    });
  /** Clocks of filesystems go in steps: what comes after this is younger. */
  const nextTick = () => new Promise((resolve) => setTimeout(resolve, 30));

  /** An export of these layers under a tag; `during`: when all are written, and the index is not. */
  const exported = async (tag: string, layers: readonly string[], during: () => Promise<void> = async () => undefined) => {
    const place = new LayoutDirectory(root, tag);
    const manifest = manifestOf(`config of ${tag}`, ...layers);
    await place.collecting(async () => {
      for (const blob of [...layers, `config of ${tag}`, manifest])
        if ((await place.size(digestOf(Buffer.from(blob)))) === undefined) await place.put(Buffer.from(blob), undefined);
      await during();
      await place.setManifest(described(manifest, mediaTypes.ociManifest));
    });
    await nextTick();
    return manifest;
  };

  it("go when no tag of the index leads to them, and so does what a crash has left", async () => {
    const first = await exported("a", ["one", "shared"]);
    await exported("b", ["two", "shared"]);
    await writeFile(join(root, "ingest", "0".repeat(24)), "half of a blob");
    await nextTick();
    await exported("a", ["three"]);
    expect(["one", first].map(isThere)).toEqual([false, false]);
    expect(["two", "shared", "three", "config of a", "config of b"].map(isThere)).toEqual([true, true, true, true, true]);
    expect(await readdir(join(root, "ingest"))).toEqual([]);
    await exported("b", []);
    expect(["two", "shared", "three"].map(isThere)).toEqual([false, false, true]);
  });

  it("stay while another run is at work that has written them, or counts on them", async () => {
    await exported("a", ["old", "needed again"]);
    await exported("a", ["other"], async () => undefined);
    await exported("a", ["needed again"]);
    // Nobody names it from here on but the run below, which has found it there.
    let inner: Promise<unknown> | undefined;
    await exported("b", ["needed again", "new"], async () => {
      await nextTick();
      inner = exported("a", ["other"]);
      await inner;
      expect(["needed again", "new", "config of b"].map(isThere)).toEqual([true, true, true]);
    });
    expect(["needed again", "new", "other"].map(isThere)).toEqual([true, true, true]);
  });

  it("stay where a manifest is not understood, and while a program is at work that says nothing of itself", async () => {
    await exported("a", ["one"]);
    const strange = JSON.stringify({ schemaVersion: 2, mediaType: "application/x-strange" });
    const place = new LayoutDirectory(root, "strange");
    await place.put(Buffer.from(strange), undefined);
    await place.setManifest(described(strange, "application/x-strange"));
    await exported("a", ["two"]);
    expect(isThere("one")).toBe(true);
    await exported("strange", []);
    expect(isThere("one")).toBe(false);
    await mkdir(join(root, "ingest/of-containerd"));
    await exported("a", ["three"]);
    expect(isThere("two")).toBe(true);
    await rm(join(root, "ingest/of-containerd"), { recursive: true });
    await exported("a", ["three"]);
    expect(isThere("two")).toBe(false);
  });

  it("of an index within the index stay, also where one of its platforms is not there", async () => {
    const image = manifestOf("config", "layer");
    const index = JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.ociIndex,
      manifests: [described(image, mediaTypes.ociManifest), described("elsewhere", mediaTypes.ociManifest)],
    });
    const place = new LayoutDirectory(root, "multi");
    for (const blob of [image, index, "config", "layer"]) await place.put(Buffer.from(blob), undefined);
    await place.setManifest(described(index, mediaTypes.ociIndex));
    await nextTick();
    await exported("a", ["one"]);
    expect([image, index, "config", "layer", "one"].map(isThere)).toEqual([true, true, true, true, true]);
  });

  it("are collected again when a run has crashed long ago", async () => {
    await exported("a", ["one"]);
    const crashed = await LayoutRun.begin(root);
    await nextTick();
    const old = await new LayoutDirectory(root, "").put(Buffer.from("of the crashed one"), undefined);
    await nextTick();
    const read = async () => Buffer.from("{}");
    await using run = await LayoutRun.begin(root);
    const named = async (): Promise<Digest[]> => [];
    await collectLayout(root, run, { named, read });
    expect(isThere("of the crashed one")).toBe(true);
    await collectLayout(root, run, { named, read }, 0n);
    expect(existsSync(crashed.path)).toBe(false);
    expect(isThere("of the crashed one")).toBe(false);
    expect(old.size).toBe(18);
  });
});
