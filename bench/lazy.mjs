#!/usr/bin/env node
// `node bench/lazy.mjs [--root DIR]`: how much of an image the start of a program reads, and how much would have to be fetched for it, by the form of the layer (docs/adr/0079-no-lazy-start.md).
// The image is of this host's own programs: its libraries, python, perl and node, in one layer. Needs root, mkfs.xfs and fincore; some minutes.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createGunzip } from "node:zlib";
import { createReadStream } from "node:fs";
import { table } from "./measure.mjs";

const option = (name, fallback) => {
  const i = process.argv.indexOf(`--${name}`);
  return i < 0 ? fallback : process.argv[i + 1];
};
const sh = (line) => execFileSync("sh", ["-c", line], { maxBuffer: 1 << 28 }).toString();
const base = mkdtempSync(join(option("root", tmpdir()), "wherry-lazy-"));
const [image, mount, tar] = [join(base, "image"), join(base, "mnt"), join(base, "layer.tar")];
mkdirSync(mount);

const triplet = process.arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
const wanted = ["bin", "lib", "lib64", "etc/ld.so.cache", "etc/passwd", "usr/lib64", "usr/lib/python3", "usr/share/perl"];
const programs = ["sh", "bash", "dash", "env", "perl", "python3", "node", "ls", "cat"].map((name) => `usr/bin/${name}`);
/** Libraries, without the few (compilers' and debuggers') that would be most of the image. */
const libraries = sh(`cd / && find usr/lib/${triplet} -maxdepth 1 -name '*.so*' -size -8000k`).trim().split("\n");
const pythons = readdirSync("/usr/lib").filter((name) => /^python3\.\d+$/.test(name));
const real = [
  ...wanted,
  ...libraries,
  `usr/lib/${triplet}/perl-base`,
  ...programs,
  ...pythons.flatMap((name) => [`usr/lib/${name}`, `usr/bin/${name}`]),
].filter((path) => existsSync(join("/", path)));

const starts = {
  "sh -c :": ["sh", "-c", ":"],
  "perl -e 1": ["perl", "-e", "1"],
  "python3, a web server's modules": ["python3", "-c", "import http.server, json, ssl"],
  "node -e 1": ["node", "-e", "1"],
};

/** A cold cache: only what is read from now on is in memory. */
function remount() {
  // When somebody still uses it, the cache stays warm and every figure is wrong: better none.
  execFileSync("umount", [mount]);
  execFileSync("mount", ["-o", "loop", image, mount]);
}

/** path → bytes of it that are in memory. */
function resident() {
  const found = new Map();
  const lines = sh(`cd ${mount} && find . -xdev -type f -print0 | xargs -0 fincore -n -b -r -o res,file`).split("\n");
  for (const line of lines) {
    const [, bytes, path] = /^\s*(\d+)\s+\.\/(.*)$/.exec(line) ?? [];
    if (path !== undefined && Number(bytes) > 0) found.set(path, Number(bytes));
  }
  return found;
}

/** Where each file's bytes lie in the archive. */
function offsets() {
  const places = new Map();
  for (const line of sh(`tar -tvRf ${tar}`).split("\n")) {
    const [, block, size, path] = /^block (\d+): -\S+ \S+\s+(\d+) \S+ \S+ (.*)$/.exec(line) ?? [];
    if (path !== undefined) places.set(path.replace(/ link to .*/, ""), { at: (Number(block) + 1) * 512, size: Number(size) });
  }
  return places;
}

/** Compressed bytes until so many plain ones are out: what a gzip stream, which has no entry points, must be read to. */
function gzipPrefix(file, plainBytes) {
  return new Promise((resolve, reject) => {
    const gunzip = createGunzip({ chunkSize: 1 << 20 });
    const source = createReadStream(file, { highWaterMark: 1 << 18 });
    let plain = 0;
    gunzip.on("data", (chunk) => {
      plain += chunk.length;
      if (plain < plainBytes) return;
      source.destroy();
      gunzip.destroy();
      resolve(gunzip.bytesWritten);
    });
    gunzip.on("end", () => resolve(gunzip.bytesWritten));
    gunzip.on("error", reject);
    source.pipe(gunzip);
  });
}

try {
  writeFileSync(image, "");
  truncateSync(image, 3 * 2 ** 30);
  execFileSync("mkfs.xfs", ["-q", image]);
  execFileSync("tar", ["-C", "/", "--sort=name", "-cf", tar, ...real]);
  execFileSync("mount", ["-o", "loop", image, mount]);
  execFileSync("tar", ["-C", mount, "-xf", tar]);
  mkdirSync(join(mount, "tmp"), { recursive: true });
  const plainBytes = statSync(tar).size;
  execFileSync("sh", ["-c", `gzip -1 < ${tar} > ${tar}.gz`]);
  const gzipBytes = statSync(`${tar}.gz`).size;
  const places = offsets();
  const frames = [256, 1024, 4096].map((kib) => kib * 1024);
  const ratio = gzipBytes / plainBytes;
  const mb = (bytes) => (bytes / 1e6).toFixed(1);
  console.log(`layer: ${mb(plainBytes)} MB, ${mb(gzipBytes)} as gzip; ${places.size} files\n`);
  const rows = [["start", "files", "read MB", "% of layer", "gzip prefix MB (%)", ...frames.map((f) => `frames of ${f / 1024} KiB: MB, requests`)]];
  for (const [title, argv] of Object.entries(starts)) {
    remount();
    const ran = spawnSync("chroot", [mount, ...argv], { stdio: ["ignore", "ignore", "pipe"] });
    if (ran.status !== 0) {
      console.error(`note: ${title} does not run in a root of this host's files and is left out: ${ran.stderr}`);
      continue;
    }
    const read = [...resident()].filter(([path]) => places.has(path));
    const bytes = read.reduce((sum, [, part]) => sum + part, 0);
    const last = Math.max(...read.map(([path]) => places.get(path).at + places.get(path).size));
    const prefix = await gzipPrefix(`${tar}.gz`, last);
    const byFrames = frames.map((frame) => {
      const touched = new Set();
      // Whole files: content is verified by file or frame before it is given out, and read-ahead takes most of a small one anyway.
      for (const [path] of read)
        for (let at = places.get(path).at; at < places.get(path).at + places.get(path).size; at += 512) touched.add(Math.floor(at / frame));
      // Neighbours come with one request.
      const requests = [...touched].filter((n) => !touched.has(n - 1)).length;
      return `${mb(touched.size * frame * ratio)}, ${requests}`;
    });
    rows.push([
      title,
      read.length,
      mb(bytes),
      ((100 * bytes) / plainBytes).toFixed(1),
      `${mb(prefix)} (${((100 * prefix) / gzipBytes).toFixed(0)})`,
      ...byFrames,
    ]);
  }
  console.log(table(rows));
} finally {
  spawnSync("umount", [mount]);
  rmSync(base, { recursive: true, force: true });
}
