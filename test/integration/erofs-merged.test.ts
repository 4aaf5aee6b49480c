/** Chains of many layers on the erofs driver: one image shows what their layers show together. */
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { ChainID } from "#core/digest.ts";
import { isEngineError } from "#core/errors.ts";
import { openLayerStore } from "#unionfs/layer-store.ts";
import type { LayerStore, RootMount, StorageDriver } from "#unionfs/mod.ts";
import { openDriver } from "#unionfs/open-driver.ts";
import { chunked, collect, pax, tar } from "#unionfs/testing/tar-builder.ts";
import { storagePlace } from "../suites/storage-place.ts";

describe.runIf(process.getuid?.() === 0)("a chain of many images (as root)", async () => {
  const { base, helper } = await storagePlace("erofs-merged");

  async function open(root: string): Promise<{ driver: StorageDriver; store: LayerStore } | string> {
    mkdirSync(root, { recursive: true });
    try {
      const driver = await openDriver("erofs", { root, helper });
      return { driver, store: await openLayerStore({ root, driver, helper }) };
    } catch (error) {
      if (isEngineError(error, "unsupported")) return error.message;
      throw error;
    }
  }

  const layers: Buffer[] = [
    tar(
      { name: "etc/", typeflag: "5", mode: 0o755 },
      { name: "etc/gone", data: "gone" },
      { name: "etc/kept", data: "kept", mode: 0o4750, uid: 7 },
      { name: "opaque/below", data: "hidden" },
      { name: "replaced/by-file", data: "hidden" },
      { name: "file", data: "will be a directory" },
      pax({ mtime: "5.000000001", "SCHILY.xattr.user.note": "kept", "SCHILY.xattr.trusted.own": "\x01\0" }),
      { name: "hard", data: "x".repeat(5000) },
      { name: "linked", typeflag: "1", linkname: "hard" },
      { name: "null", typeflag: "3", major: 1, minor: 3 },
      { name: "long", typeflag: "2", linkname: "a/".repeat(600) },
    ),
    tar(
      { name: "etc/.wh.gone", data: "" },
      { name: "opaque/.wh..wh..opq", data: "" },
      { name: "opaque/own", data: "shown" },
      { name: "replaced", data: "a file now" },
      { name: "file/", typeflag: "5", mode: 0o700 },
      { name: "file/inside", data: "" },
      { name: "again", data: "first" },
    ),
    tar({ name: ".wh.again", data: "" }, { name: ".wh.null", data: "" }),
    tar({ name: "again/", typeflag: "5" }, { name: "again/x", data: "second" }, pax({ "GNU.sparse.size": "90000", "GNU.sparse.map": "5,3,70000,700" }), {
      name: "sparse",
      data: Buffer.alloc(703, "s"),
    }),
    ...Array.from({ length: 8 }, (_, i) => tar({ name: `etc/from-${i}`, data: `layer ${i}`.repeat(i * 100) }, { name: "top", data: String(i) })),
  ];

  const lowers = (mount: RootMount) => (mount.kind === "overlay" ? mount.lower.length : 0);

  it("is one image for the containers that come after the first, and shows the same", async (context) => {
    const root = join(base, "store");
    const opened = await open(root);
    if (typeof opened === "string") return context.skip(opened);
    const { driver, store } = opened;
    let chain: ChainID | undefined;
    for (const layer of layers) chain = (await store.apply(chain, chunked(layer))).chainId;
    expect(readdirSync(join(root, "erofs")).filter((name) => existsSync(join(root, "erofs", name, "merged.erofs")))).toEqual([]);

    await driver.prepare("first", chain);
    expect(lowers(await driver.mounts("first"))).toBe(1 + layers.length);
    // It is being made.
    await driver.sweep(new Set(["first"]));
    const shown = await collect(store.exportTree("first"));
    await driver.idle();

    await driver.prepare("second", chain);
    const second = await driver.mounts("second");
    expect(lowers(second)).toBe(2);
    expect((await collect(store.exportTree("second"))).equals(shown)).toBe(true);
    expect(await store.changes("second")).toEqual([]);
    // What is below a container's own layer is not exchanged, in another run of the engine neither.
    expect(lowers(await driver.mounts("first"))).toBe(1 + layers.length);
    const again = await open(root);
    if (typeof again === "string") throw new Error(again);
    expect(lowers(await again.driver.mounts("first"))).toBe(1 + layers.length);
    expect(await again.driver.mounts("second")).toEqual(second);

    // It can be made anew.
    rmSync(join(root, "erofs", chain!.slice(7), "merged.erofs"));
    expect((await collect(again.store.exportTree("second"))).equals(shown)).toBe(true);

    for (const key of ["first", "second"]) await again.driver.remove(key);
    await again.store.prune(new Set());
    await again.driver.idle();
    // Where images are mounted on their way to an overlay, on kernels that want a path of them.
    const places = ["l", "tmp-mnt", "trash"];
    expect(readdirSync(join(root, "erofs")).filter((place) => !places.includes(place))).toEqual([]);
    expect(readdirSync(join(root, "erofs", "trash"))).toEqual([]);
  });

  it("short ones are left as they are", async (context) => {
    const root = join(base, "short");
    const opened = await open(root);
    if (typeof opened === "string") return context.skip(opened);
    const { driver, store } = opened;
    let chain: ChainID | undefined;
    for (const layer of layers.slice(0, 3)) chain = (await store.apply(chain, chunked(layer))).chainId;
    for (const key of ["a", "b"]) {
      await driver.prepare(key, chain);
      expect(lowers(await driver.mounts(key))).toBe(4);
      await driver.idle();
    }
  });
});
