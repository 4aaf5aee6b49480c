import { mkdtemp, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type BlobDigest, digestOf } from "#core/digest.ts";
import { openContentStore } from "./blob-store.ts";
import type { ContentStore } from "./mod.ts";

let root: string;
let store: ContentStore;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "content-"));
  store = await openContentStore(root);
});
afterEach(() => rm(root, { recursive: true }));

async function* chunks(...parts: string[]) {
  for (const part of parts) yield Buffer.from(part);
}
const names = async (folder: string) => readdir(join(root, "content", folder));

describe("the content store", () => {
  it("names content by its digest, whole or in chunks", async () => {
    const digest = digestOf("hello world");
    expect(await store.write(chunks("hello", " ", "", "world"))).toEqual({ digest, size: 11 });
    expect(await store.write(Buffer.from("hello world"), digest)).toEqual({ digest, size: 11 });
    expect(Buffer.from(await store.read(digest)).toString()).toBe("hello world");
    expect(await store.size(digest)).toBe(11);
    expect(Buffer.concat(await (await store.open(digest)).toArray()).toString()).toBe("hello world");
    const listed: string[] = [];
    for await (const name of store.list()) listed.push(name);
    expect(listed).toEqual([digest]);
    await store.remove(digest);
    await store.remove(digest);
    expect(await store.has(digest)).toBe(false);
  });

  it("keeps nothing that is not what was expected", async () => {
    await expect(store.write(chunks("hello"), digestOf("other"))).rejects.toMatchObject({ code: "corrupt" });
    expect(await names("ingest")).toEqual([]);
    expect(await names("blobs/sha256")).toEqual([]);
  });

  it("keeps nothing of a source that fails or is cancelled", async () => {
    async function* failing() {
      yield Buffer.from("a");
      throw new Error("connection lost");
    }
    await expect(store.write(failing())).rejects.toThrow("connection lost");
    const cancel = new AbortController();
    cancel.abort();
    await expect(store.write(chunks("a"), undefined, cancel.signal)).rejects.toMatchObject({ code: "cancelled" });
    expect(await names("ingest")).toEqual([]);
  });

  it("says not-found, refuses names that are no digests, and blobs over the limit", async () => {
    await expect(store.read(digestOf("x"))).rejects.toMatchObject({ code: "not-found" });
    await expect(store.open(digestOf("x"))).rejects.toMatchObject({ code: "not-found" });
    await expect(store.read("sha256:../../../../etc/passwd" as BlobDigest)).rejects.toMatchObject({ code: "invalid" });
    const { digest } = await store.write(Buffer.alloc(100));
    await expect(store.read(digest, 99)).rejects.toMatchObject({ code: "invalid" });
  });

  it("notices a blob that was changed on disk", async () => {
    const { digest } = await store.write(Buffer.from("abc"));
    await truncate(join(root, "content/blobs/sha256", digest.slice(7)), 2);
    await expect(store.read(digest)).rejects.toMatchObject({ code: "corrupt" });
  });

  it("sweeps what a crash left", async () => {
    await writeFile(join(root, "content/ingest/left"), "x");
    await store.sweep();
    expect(await names("ingest")).toEqual([]);
  });
});
