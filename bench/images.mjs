// What is done with whole images: load, save, rmi, commit and cp. Ours with each storage driver beside dockerd, alternating.
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { busyCpuMs, median, settle } from "./measure.mjs";

export const sha256 = (data) => createHash("sha256").update(data).digest("hex");

function header(name, size, type) {
  const block = Buffer.alloc(512);
  block.write(name);
  block.write(type === "5" ? "0000755\0" : "0000644\0", 100);
  block.write("0000000\x000000000\0", 108);
  block.write(`${size.toString(8).padStart(11, "0")}\0`, 124);
  block.write("14000000000\0        ", 136);
  block.write(`${type}\0`, 156);
  block.write("ustar\x0000", 257);
  block.write(
    `${[...block]
      .reduce((sum, byte) => sum + byte)
      .toString(8)
      .padStart(6, "0")}\0 `,
    148,
  );
  return block;
}
const member = (name, data) => [header(name, data.length, "0"), data, Buffer.alloc((512 - (data.length % 512)) % 512)];
const tar = (...members) => Buffer.concat([...members.flat(), Buffer.alloc(1024)]);

/** A layer of `files` files of `bytes` random bytes each (of so many different ones), in directories of a hundred. */
export function layer(label, files, bytes, symbols = 256) {
  const noise = randomBytes(bytes + files).map((byte) => byte % symbols);
  const members = [header(`${label}/`, 0, "5")];
  for (let i = 0; i < files; i++) {
    if (i % 100 === 0) members.push(header(`${label}/d${i / 100}/`, 0, "5"));
    members.push(...member(`${label}/d${Math.floor(i / 100)}/f${i}`, noise.subarray(i, i + bytes)));
  }
  return tar(...members);
}

/** A layer whose files are all different and become less than half as large when compressed, as programs and texts do. */
export function textLayer(label, files, bytes) {
  const words = Array.from({ length: 2048 }, () => randomBytes(3 + (randomBytes(1)[0] % 8)));
  const members = [header(`${label}/`, 0, "5")];
  for (let i = 0; i < files; i++) {
    if (i % 100 === 0) members.push(header(`${label}/d${i / 100}/`, 0, "5"));
    const data = Buffer.alloc(bytes);
    const choices = randomBytes(bytes);
    for (let at = 0, n = 0; at < bytes; n += 2) at += words[choices.readUInt16LE(n) % words.length].copy(data, at);
    members.push(...member(`${label}/d${Math.floor(i / 100)}/f${i}`, data));
  }
  return tar(...members);
}

/** The configuration of an image of these layers. */
export const configOf = (layers, run = { Cmd: ["/bin/true"] }) =>
  Buffer.from(
    JSON.stringify({
      architecture: process.arch === "arm64" ? "arm64" : "amd64",
      os: "linux",
      config: run,
      rootfs: { type: "layers", diff_ids: layers.map((l) => `sha256:${sha256(l)}`) },
    }),
  );

/** A docker-archive of these layers. */
export function archive(name, layers, run) {
  const config = configOf(layers, run);
  const names = layers.map((_, i) => `${i}/layer.tar`);
  const manifest = [{ Config: `${sha256(config)}.json`, RepoTags: [`${name}:latest`], Layers: names }];
  return tar(
    ...layers.map((l, i) => member(names[i], l)),
    member(`${sha256(config)}.json`, config),
    member("manifest.json", Buffer.from(JSON.stringify(manifest))),
  );
}

/** Regular members of a tar with short names: Map of name to contents. */
export function membersOf(bytes) {
  const members = new Map();
  for (let at = 0; bytes[at] !== 0; ) {
    const name = bytes.toString("utf8", at, bytes.indexOf(0, at));
    const size = parseInt(bytes.toString("latin1", at + 124, at + 135), 8);
    if (bytes[at + 156] === 0x30) members.set(name, bytes.subarray(at + 512, at + 512 + size));
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return members;
}

/** Times each named case for each engine, in turns; cases run in order, once a round. `warm`: a first round that is not measured. No round begins after `until` (performance.now()), but one is measured. */
export async function rounds(engines, runs, cases, { warm = true, until = Number.POSITIVE_INFINITY } = {}) {
  const times = new Map();
  let done = 0;
  for (let round = warm ? 0 : 1; round <= runs && (round < 2 || performance.now() < until); round++) {
    done = round;
    for (const engine of engines) {
      for (const [title, work] of Object.entries(cases)) {
        await settle();
        const cpu = busyCpuMs();
        const from = performance.now();
        await work(engine);
        // The first round warms up.
        if (round === 0) continue;
        const key = `${title}\n${engine.name}`;
        const list = times.get(key) ?? times.set(key, []).get(key);
        list.push({ ms: performance.now() - from, cpu: busyCpuMs() - cpu });
      }
    }
  }
  return Object.keys(cases).map((title) => ({
    title,
    rows: engines.map(({ name }, i) => {
      const list = times.get(`${title}\n${name}`);
      const ms = list.map((x) => x.ms);
      const base = median(times.get(`${title}\n${engines[0].name}`).map((x) => x.ms));
      return {
        name,
        medianMs: median(ms),
        minMs: Math.min(...ms),
        maxMs: Math.max(...ms),
        ratio: i === 0 ? 1 : median(ms) / base,
        cpuMs: median(list.map((x) => x.cpu)),
        runs: done,
      };
    }),
  }));
}

/** Each case for each engine (which has `busybox`): [{title, rows}]. */
export async function measureImages(engines, base, runs) {
  const dir = join(base, "images");
  mkdirSync(dir, { recursive: true });
  const big = join(dir, "big.tar");
  writeFileSync(
    big,
    archive(
      "bench-big",
      Array.from({ length: 5 }, (_, i) => layer(`l${i}`, 4000, 10_240)),
    ),
  );
  const saved = join(dir, "saved.tar");
  const trees = { "2,000": join(dir, "tree-2000.tar"), "5,000": join(dir, "tree-5000.tar") };
  writeFileSync(trees["2,000"], layer("tree", 2000, 2048));
  writeFileSync(trees["5,000"], layer("tree", 5000, 2048));
  const withFiles = (count) => ({
    [`(create a container for ${count})`]: (e) => e.cli(["create", "--name", "bench-cp", "busybox", "true"]),
    [`cp of ${count} files into a container`]: (e) => e.cli(["cp", "-", "bench-cp:/tmp"], { inputFile: trees[count] }),
    [`commit of ${count} files`]: (e) => e.cli(["commit", "bench-cp", "bench-committed"]),
    [`(remove both of ${count})`]: async (e) => {
      await e.cli(["rm", "bench-cp"]);
      await e.cli(["rmi", "bench-committed"]);
    },
  });
  const cases = {
    "load: 5 layers of 4,000 files, 205 MB": (e) => e.cli(["load", "-q", "-i", big]),
    "save of the same": (e) => e.cli(["save", "-o", saved, "bench-big"]),
    // Or the next engine, which writes to the same name, would free its blocks.
    "(remove the archive)": () => rmSync(saved),
    "rmi of the same": (e) => e.cli(["rmi", "bench-big"]),
    ...withFiles("2,000"),
    ...withFiles("5,000"),
  };
  return (await rounds(engines, runs, cases)).filter(({ title }) => !title.startsWith("("));
}
