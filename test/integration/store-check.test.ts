/** `system check`, `image tree` and `image diff` on a real store. @module */
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { describe as describeComparison } from "../../src/cli/image-diff.ts";
import { drawTree } from "../../src/cli/image-tree.ts";
import { dockerArchive, rootLayer, streamOf, tarOf } from "../fixtures.ts";
import { openEngine } from "#engine/open-engine.ts";
import { TestEngine } from "./engine-setup.ts";

describe.runIf(process.getuid?.() === 0)("the store, checked and compared", () => {
  let test: TestEngine;
  const base = rootLayer();
  const first = tarOf([{ name: "etc", type: "dir" }, { name: "etc/.wh.motd" }, { name: "big", data: "b".repeat(3000) }, { name: "same", data: "s" }]);
  const second = tarOf([
    { name: "big", data: "B".repeat(5000) },
    { name: "same", data: "s" },
    { name: "only", data: "x" },
  ]);
  const third = tarOf([{ name: "big", data: "again" }]);

  beforeAll(async () => {
    test = await TestEngine.open();
    const archive = dockerArchive([
      { layers: [base, first], tags: ["app:1"] },
      { layers: [base, second, third], tags: ["app:2"] },
    ]);
    await test.engine.images.load(streamOf(archive, 64 * 1024), () => undefined);
  });
  afterAll(() => test[Symbol.asyncDispose]());

  const check = (repair = false) => test.engine.system.check({ repair });

  it("nothing is wrong with a store in use", async () => {
    const id = await test.create(["true"]);
    await test.engine.volumes.create({ name: "kept" });
    expect(await check()).toEqual([]);
    await test.engine.containers.remove(id, { force: true, volumes: true });
  });

  it("what nobody needs is found, and removed when asked for", async () => {
    const { dataRoot } = test.options;
    const hex = "ab".repeat(32);
    writeFileSync(join(dataRoot, "content/blobs/sha256", hex), "stray");
    mkdirSync(join(dataRoot, "containers", hex));
    mkdirSync(join(dataRoot, "volumes/stray/_data"), { recursive: true });
    // What is young may be somebody's soon.
    expect(await check()).toEqual([]);
    for (const path of [`content/blobs/sha256/${hex}`, `containers/${hex}`, "volumes/stray"]) utimesSync(join(dataRoot, path), 1, 1);
    const found = await check();
    expect(found.map(({ kind, what }) => `${kind} ${what}`)).toEqual([
      `orphan blob sha256:${hex}`,
      `orphan container directory ${hex}`,
      "orphan volume directory stray",
    ]);
    expect((await check(true)).every(({ repaired }) => repaired)).toBe(true);
    expect(await check()).toEqual([]);
    expect(readdirSync(join(dataRoot, "volumes"))).toContain("kept");
  });

  it("a layer that was changed behind the engine's back is damaged, and not taken for an orphan", async () => {
    const image = await test.engine.images.get("app:1");
    const file = join(test.options.dataRoot, "overlay2", image.chainId!.slice(7), "diff/big");
    writeFileSync(file, "c".repeat(3000));
    const problems = await check(true);
    expect(problems).toEqual([{ kind: "damaged", what: `layer ${image.chainId}`, why: expect.stringContaining("no longer has the content"), repaired: false }]);
    writeFileSync(file, "b".repeat(3000));
    expect(await check()).toEqual([]);
  });

  it("the tree shows what is shared", async () => {
    const [shared] = (await test.engine.images.get("app:1")).chainIds;
    const drawn = drawTree(await test.engine.images.tree(), false);
    expect(drawn.match(new RegExp(shared!.slice(7, 19), "g"))).toHaveLength(1);
    expect(drawn).toMatch(/├─ [0-9a-f]{12} 3kB {2}app:1 \[3\.0[0-9]*kB\]\n/);
    expect(drawn).toMatch(/└─ [0-9a-f]{12} 5kB\n.* {3}└─ [0-9a-f]{12} 5B {2}app:2/);
  });

  it("what df tells adds up to what du counts", async () => {
    const id = await test.create(["true"], {}, {}, "written");
    await test.engine.containers.writeArchive("written", "/", streamOf(tarOf([{ name: "data", data: "d".repeat(70_000) }])), {
      noOverwriteDirNonDir: false,
      copyUidGid: false,
    });
    const volume = await test.engine.volumes.create({ name: "filled" });
    writeFileSync(join(volume.Mountpoint, "file"), "v".repeat(12_345));
    const { layersBytes, containers, volumes } = await test.engine.system.diskUsage();
    /** du's count of the files below: lengths, hard links once, without directories. */
    const du = (...paths: string[]) =>
      Number(
        execFileSync("sh", ["-c", 'find "$@" ! -type d -printf "%D:%i %s\\n" | sort -u | awk "{n += \\$2} END {print n + 0}"', "sh", ...paths], {
          encoding: "utf8",
        })
          .trim()
          .split("\n")
          .at(-1),
      );
    const { dataRoot } = test.options;
    const { layers, active } = { layers: readdirSync(join(dataRoot, "overlay2")).filter((name) => /^[0-9a-f]{64}$/.test(name) && name !== id), active: [id] };
    expect(layersBytes).toBe(du(...layers.map((name) => join(dataRoot, "overlay2", name, "diff"))));
    expect(containers[id]?.rw).toBe(du(...active.map((name) => join(dataRoot, "overlay2", name, "diff"))));
    expect(volumes["filled"]).toBe(du(volume.Mountpoint));
    await test.engine.containers.remove(id, { force: true, volumes: false });
  });

  it("two images are compared by layer and by file", async () => {
    const comparison = await test.engine.images.compare("app:1", "app:2");
    expect(comparison.shared).toBe(1);
    expect(comparison.files.map(({ kind, path, sizes }) => [kind, path, ...sizes])).toEqual([
      ["modify", "/big", 3000, 5],
      ["add", "/etc/motd", undefined, 5],
      ["add", "/only", undefined, 1],
    ]);
    expect(comparison.layers.map((layers) => layers.map(({ wasted }) => wasted))).toEqual([
      [5, 0],
      [0, 5000, 0],
    ]);
    expect(describeComparison(JSON.parse(JSON.stringify(comparison)), ["app:1", "app:2"])).toContain("C /big 3kB → 5B\nA /etc/motd 5B\nA /only 1B\n");
    expect((await test.engine.images.compare("app:1", "app:1")).files).toEqual([]);
  });

  it("with a budget, loading takes unused images away first, and refuses what cannot fit", async () => {
    const { engine, options } = test;
    const archive = (text: string) =>
      streamOf(dockerArchive([{ layers: [tarOf([{ name: text, data: text.repeat(1_000_000) }])], tags: [`${text}:1`] }]), 64 * 1024);
    const names = async () => (await test.engine.images.list()).flatMap(({ repoTags }) => repoTags).sort();
    const before = await names();
    await engine.close();
    test.engine = await openEngine({ ...options, storageBudgetBytes: 3_500_000 });
    try {
      for (const text of ["x", "y", "z"]) await test.engine.images.load(archive(text), () => undefined);
      await test.engine.containers.create(test.request("z:1", ["true"], {}, {}, "holds-z"));
      await test.engine.images.load(archive("v"), () => undefined);
      await test.engine.images.load(archive("w"), () => undefined);
      const left = await names();
      expect(left).toContain("z:1");
      expect(left).toContain("w:1");
      expect(left).not.toContain("x:1");
      await expect(test.engine.images.load(archive("12345678"), () => undefined)).rejects.toMatchObject({ code: "storage" });
      expect(await names()).toEqual(left);
    } finally {
      await test.engine.containers.remove("holds-z", { force: true, volumes: false }).catch(() => undefined);
      await test.reopen();
    }
    expect(before).toContain("app:1");
  });
});
