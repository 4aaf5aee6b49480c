#!/usr/bin/env node
// Fuzzes what reads untrusted bytes, ten minutes long: the helper's decoders (C), and OCI specs and create bodies (TypeScript).
//   node scripts/fuzz.mjs [--seconds N] [--seed N] [--plain] [--keep]      --keep: adds what reaches new code to test/fuzz/decoder
// With clang's libFuzzer where there is one, else (or --plain) with the mutator in native/fuzz.c; both under ASan and UBSan.
// Exit code 0: nothing found. Otherwise the input that did it is kept, and its path printed.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { nativeSources, warnings } from "./build-native.mjs";
import { parseOps } from "./gen-ops.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const native = join(root, "native");

/** Frames of native/wire.h. */
const F_ANSWER = 20;
const F_CREDIT = 21;

// --- seeds: valid plans, so that mutations reach past the first check

const u8 = (n) => Buffer.from([n]);
const u16 = (n) => Buffer.from([n & 255, n >> 8]);
const u32 = (n) => Buffer.from([n, n >>> 8, n >>> 16, n >>> 24].map((b) => b & 255));
const str = (s) => Buffer.concat([u32(s.length), Buffer.from(s), u8(0)]);
const list = (items) => Buffer.concat([u32(items.length), ...items]);
const sample = {
  u32: () => u32(7),
  i32: () => u32(7),
  u64: () => Buffer.concat([u32(9), u32(0)]),
  str: () => str("some/path"),
  bytes: () => Buffer.concat([u32(16), Buffer.alloc(16, 5)]),
  strs: () => list([str("/bin/sh"), str("-c"), str("")]),
  u32s: () => list([u32(1), u32(2)]),
  slot: () => u32(3),
  out: () => u32(4),
};

function step(op, where) {
  const body = Buffer.concat([u16(op.code), u8(where), u8(1), u16(17), ...op.fields.map((field) => sample[field.type]())]);
  return Buffer.concat([u32(body.length), body]);
}

/** One plan per operation, one with all of them, and launches of these. */
function seeds() {
  const ops = parseOps(readFileSync(join(native, "ops.def"), "utf8"));
  const named = (name) => ops.find((op) => op.name === name);
  const plan = (steps) => list(steps);
  const hostOnly = ops.filter((op) => !["clone", "exec", "signal", "await", "write_pid", "child_maps", "child_ns", "stdio"].includes(op.name));
  const everything = plan([
    ...hostOnly.map((op) => step(op, 0)),
    step(named("clone"), 0),
    ...["signal", "await", "write_pid", "child_maps", "child_ns"].map((name) => step(named(name), 0)),
    ...hostOnly.map((op) => step(op, 1)),
    step(named("stdio"), 1),
    step(named("exec"), 1),
  ]);
  const plans = [plan([]), ...ops.map((op) => plan([step(op, 0)])), everything];
  const head = Buffer.concat([
    u8(0xff),
    u16(24),
    u16(80),
    u32(1),
    str("/run/x.sock"),
    str("/run/x.exit"),
    str("/run/x.pid"),
    str("0123456789abcdef0123456789abcdef"),
  ]);
  const tail = Buffer.concat([u32(2), u16(0x1110), str("/var/log"), u32(1000), u32(0), u32(3), list([str("/sys/fs/cgroup/x/memory.events")])]);
  // frames to a name server: credit, then an answer to a datagram and to a stream
  const frame = (type, ...parts) => {
    const payload = Buffer.concat(parts);
    return Buffer.concat([u32(5 + payload.length), Buffer.of(type), u32(0), payload]);
  };
  const names = Buffer.concat([
    frame(F_CREDIT, u32(16)),
    frame(F_ANSWER, Buffer.of(0), u32(0x0a090002), u16(4000), Buffer.from("answer")),
    frame(F_ANSWER, Buffer.of(1), u32(0), u16(0), Buffer.from("answer")),
    frame(F_ANSWER, Buffer.of(3), u32(0), u16(0)),
  ]);
  return [names, ...plans, Buffer.concat([head, tail, everything]), Buffer.from("text <&> \u2028 \xff\xc0 \t\n", "latin1")];
}

// --- building

const base = ["-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", "-fno-omit-frame-pointer", ...warnings];
const sources = () => [...nativeSources().filter((file) => basename(file) !== "main.c"), join(native, "fuzz.c")];

/** A clang that can link libFuzzer; undefined without. */
export function findLibFuzzer(directory) {
  const probe = join(directory, "probe.c");
  writeFileSync(probe, "#include <stddef.h>\n#include <stdint.h>\nint LLVMFuzzerTestOneInput(const uint8_t *d, size_t n) { (void)d; (void)n; return 0; }\n");
  for (const clang of ["clang", "clang-19", "clang-18", "clang-17", "clang-16", "clang-15", "clang-14"]) {
    const made = spawnSync(clang, ["-fsanitize=fuzzer,address", probe, "-o", join(directory, "probe")], { stdio: "ignore" });
    if (made.status === 0) return clang;
  }
  return undefined;
}

/** Builds the target without libFuzzer. `sanitize` = with ASan and UBSan. Returns its path. */
export function buildPlainFuzzer(directory, sanitize = true) {
  const out = join(directory, sanitize ? "fuzz-asan" : "fuzz");
  const flags = sanitize ? ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"] : [];
  execFileSync(process.env.CC ?? "gcc", [...base, ...flags, "-DFUZZ_MAIN", ...sources(), "-o", out], { stdio: "inherit" });
  return out;
}

/** Writes the seeds into directory/seeds; their paths. */
export function writeSeeds(directory) {
  const at = join(directory, "seeds");
  mkdirSync(at, { recursive: true });
  return seeds().map((bytes, index) => {
    const file = join(at, String(index));
    writeFileSync(file, bytes);
    return file;
  });
}

function option(name, otherwise) {
  const at = process.argv.indexOf(name);
  return at < 0 ? otherwise : Number(process.argv[at + 1]);
}

/** Inputs of earlier runs that reach code which the seeds do not. */
const kept = join(root, "test/fuzz/decoder");

/** The decoders of the helper; resolves to true when nothing was found. */
async function fuzzDecoders(directory, seconds, seed) {
  const files = writeSeeds(directory);
  const clang = process.argv.includes("--plain") ? undefined : findLibFuzzer(directory);
  if (clang === undefined) {
    console.log(`decoders: no libFuzzer: the plain mutator, seed ${seed}, ${seconds} s`);
    return run(buildPlainFuzzer(directory), [String(seconds), String(seed), ...files.slice(0, 64)]);
  }
  console.log(`decoders: ${clang} with libFuzzer, seed ${seed}, ${seconds} s`);
  const target = join(directory, "fuzz");
  execFileSync(clang, [...base, "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all", ...sources(), "-o", target], { stdio: "inherit" });
  const quiet = ["-verbosity=0", "-print_final_stats=1", "-rss_limit_mb=1024", "-max_len=65536"];
  const found = join(directory, "found");
  mkdirSync(found);
  const limits = [...quiet, `-max_total_time=${seconds}`, `-seed=${seed}`, `-artifact_prefix=${directory}/`];
  const passed = await run(target, [...limits, found, join(directory, "seeds"), kept]);
  if (passed && process.argv.includes("--keep"))
    await run(target, ["-merge=1", "-verbosity=0", "-max_len=1024", `-artifact_prefix=${directory}/`, kept, found]);
  return passed;
}

/** OCI specs and create bodies, up to the plan's bytes. */
async function fuzzSpecs(directory, seconds, seed) {
  console.log(`specs: seed ${seed}, ${seconds} s`);
  const bundle = join(directory, "spec.mjs");
  const source = join(root, "test/fuzz/spec.ts");
  await build({ entryPoints: [source], bundle: true, platform: "node", format: "esm", outfile: bundle, logLevel: "warning" });
  return run(process.execPath, [bundle, String(seconds), String(seed), join(root, "test/fuzz/corpus")]);
}

function run(program, args) {
  const child = spawn(program, args, { stdio: "inherit" });
  return new Promise((resolve) => child.on("exit", (code) => resolve(code === 0)));
}

async function main() {
  const seconds = option("--seconds", 600);
  const seed = option("--seed", Date.now() % 1_000_000);
  const directory = mkdtempSync(join(tmpdir(), "wherry-fuzz-"));
  const passed = await Promise.all([fuzzDecoders(directory, seconds, seed), fuzzSpecs(directory, seconds, seed)]);
  if (passed.every(Boolean)) rmSync(directory, { recursive: true, force: true });
  else console.error(`found something: ${readdirSync(directory).join(" ")} in ${directory} (seed ${seed})`);
  process.exitCode = passed.every(Boolean) ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
