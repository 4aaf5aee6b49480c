#!/usr/bin/env node
// 1,000 images that share 5,000 layers: what start-up, `images`, tagging, removing one, and pruning all of them take.
//   node bench/many-images.mjs [--images N] [--dir DIR]      (needs root and a build)
// Layers hold one small file each: what is measured is the book-keeping, not the unpacking.
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { parseArgs } from "node:util";
import { openUseCases } from "../dist/index.js";

const { values } = parseArgs({ options: { images: { type: "string", default: "1000" }, dir: { type: "string", default: "/var/tmp" } } });
const count = Number(values.images);
const root = mkdtempSync(join(values.dir, "wherry-many-"));
const options = {
  dataRoot: join(root, "data"),
  execRoot: join(root, "run"),
  cgroupParent: `/wherry-many-${process.pid}`,
  bridge: { name: `wm${process.pid}` },
  log: () => undefined,
};

const sha = (data) => createHash("sha256").update(data).digest("hex");
function member(name, data) {
  const block = Buffer.alloc(512);
  const put = (text, at) => block.write(text, at, "latin1");
  put(name, 0);
  put("0000644\0", 100);
  put("0000000\0", 108);
  put("0000000\0", 116);
  put(`${data.length.toString(8).padStart(11, "0")}\0`, 124);
  put("00000000000\0", 136);
  put("        ", 148);
  put("0", 156);
  put("ustar\x0000", 257);
  put(
    `${block
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, "0")}\0 `,
    148,
  );
  return Buffer.concat([block, data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}
const layer = (text) => Buffer.concat([member(text, Buffer.from(text)), Buffer.alloc(1024)]);

/** Ten images share five layers at the bottom; each has four or five of its own: 5,000 for 1,000 images. */
function archive(group) {
  const files = [];
  const add = (tar) => {
    const name = `${sha(tar)}.tar`;
    files.push(member(name, tar));
    return { name, diffId: `sha256:${sha(tar)}` };
  };
  const shared = Array.from({ length: 5 }, (_, i) => add(layer(`shared-${group}-${i}`)));
  const manifest = Array.from({ length: 10 }, (_, i) => {
    const stack = [...shared, ...Array.from({ length: i % 2 === 0 ? 4 : 5 }, (_, j) => add(layer(`own-${group}-${i}-${j}`)))];
    const config = Buffer.from(
      JSON.stringify({
        architecture: "amd64",
        os: "linux",
        created: "2024-01-01T00:00:00Z",
        config: {},
        rootfs: { type: "layers", diff_ids: stack.map((l) => l.diffId) },
      }),
    );
    files.push(member(`${sha(config)}.json`, config));
    return { Config: `${sha(config)}.json`, RepoTags: [`many/${group}:${i}`], Layers: stack.map((l) => l.name) };
  });
  return Buffer.concat([...files, member("manifest.json", Buffer.from(JSON.stringify(manifest))), Buffer.alloc(1024)]);
}

async function timed(what, work) {
  const begin = performance.now();
  const result = await work();
  console.log(`${what.padEnd(44)} ${(performance.now() - begin).toFixed(1).padStart(9)} ms`);
  return result;
}

try {
  mkdirSync(options.execRoot);
  let engine = await timed("start-up, empty", () => openUseCases(options));
  const load = async function* (group) {
    yield archive(group);
  };
  for (const part of [1, 10, 100]) {
    if (part * 10 > count) break;
    const from = part === 1 ? 0 : part / 10;
    await timed(`load of images up to ${part * 10}`, async () => {
      for (let group = from; group < part; group++) await engine.images.load(load(group), () => undefined);
    });
    await engine.close();
    engine = await timed(`start-up with ${part * 10} images`, () => openUseCases(options));
    await timed("  images", () => engine.images.list());
    await timed("  tag", () => engine.images.tag("many/0:1", "many/again:1"));
    await timed("  images after a change", () => engine.images.list());
    await timed("  rmi of the tag", () => engine.images.remove("many/again:1", { force: false, prune: true }));
    await timed("  load of one image that is there", () => engine.images.load(load(0), () => undefined));
    await timed("  rmi of one image, four layers", () => engine.images.remove("many/0:2", { force: false, prune: true }));
    await engine.images.load(load(0), () => undefined);
    await timed("  prune of nothing", () => engine.images.prune({}));
  }
  await timed("prune of all", () => engine.images.prune({ dangling: ["false"] }));
  await timed("closing (files deleted in the background)", () => engine.close());
} finally {
  rmSync(root, { recursive: true, force: true });
}
