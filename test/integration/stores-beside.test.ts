/** Two storage drivers, one after the other, on one data root: what one has made is the other's to leave alone. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Helper } from "#linux/helper.ts";
import { startHelper } from "#linux/helper-client.ts";
import { collect } from "#unionfs/testing/tar-builder.ts";
import { dockerArchive, streamOf, tarOf } from "../fixtures.ts";
import { nativeHelper } from "../suites/native-helper.ts";
import { openStore, type StoreParts, sweep } from "./crash-store.ts";

describe.runIf(process.getuid?.() === 0)("a store of another driver", () => {
  let root: string;
  let helper: Helper;
  const helperPath = nativeHelper();

  beforeAll(async () => {
    root = mkdtempSync("/var/tmp/wherry-beside-");
    mkdirSync(join(root, "run"));
    helper = await startHelper({ helperPath, execRoot: join(root, "run"), log: () => undefined });
  });
  afterAll(async () => {
    await helper.close();
    rmSync(root, { recursive: true, force: true });
  });

  const shared = tarOf([{ name: "shared", data: "s".repeat(10_000) }]);
  const archive = (text: string, tag: string) => dockerArchive([{ layers: [shared, tarOf([{ name: text, data: text }])], tags: [tag] }]);
  const load = (parts: StoreParts, text: string, tag: string) => parts.images.load(streamOf(archive(text, tag), 64 * 1024), () => undefined);
  const names = async ({ images }: StoreParts) => (await images.list()).flatMap(({ repoTags }) => repoTags).sort();
  /** Every file with what is in it, of this driver's directories. */
  const contents = (driver: string) =>
    execFileSync(
      "sh",
      ["-c", `find ${driver} layerdb/${driver} -type f -print0 | sort -z | xargs -0 sha256sum; find ${driver} layerdb/${driver} ! -type f | sort`],
      {
        cwd: join(root, "data"),
        encoding: "utf8",
      },
    );
  /** Every layer is read to its end, and its digest verified by that. */
  const readAll = async ({ images, layers }: StoreParts) => {
    for (const { chainIds } of await images.list()) for (const chain of chainIds) await collect(await layers.tar(chain));
  };

  it("stays as it is while one is in use, and has its images again when it is", async () => {
    const data = join(root, "data");
    const first = await openStore(data, "overlay2", helper);
    await load(first, "one", "one:1");
    const { chainId, id: oneId } = await first.images.get("one:1");
    await first.driver.prepare("container", chainId);
    const own = await first.driver.mounts("container");
    if (own.kind !== "overlay" || own.upper === undefined) throw new Error("overlay2 gives an overlay");
    writeFileSync(join(own.upper, "written"), "w");
    await sweep(first, new Set(["container"]));
    const before = contents("overlay2");

    const second = await openStore(data, "vfs", helper);
    // Its snapshots are none of this driver's, whoever says what there is.
    await sweep(second, new Set());
    expect(await names(second)).toEqual([]);
    await expect(second.images.get("one:1")).rejects.toMatchObject({ code: "not-found" });
    // What a check must not take for orphans.
    expect(await second.images.elsewhere()).toEqual([oneId]);
    await load(second, "two", "two:1");
    await load(second, "three", "three:1");
    await second.images.remove("three:1", { force: false, prune: true, inUse: () => [] });
    await second.images.prune({ all: false, used: new Set(), match: () => true });
    await sweep(second, new Set());
    expect(await names(second)).toEqual(["two:1"]);
    await readAll(second);
    expect(contents("overlay2")).toBe(before);

    const again = await openStore(data, "overlay2", helper);
    await sweep(again, new Set(["container"]));
    expect(await names(again)).toEqual(["one:1"]);
    await readAll(again);
    expect(contents("overlay2")).toBe(before);
    expect([...first.complaints, ...second.complaints, ...again.complaints]).toEqual([]);
  });
});
