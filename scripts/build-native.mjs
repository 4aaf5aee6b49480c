#!/usr/bin/env node
// Builds the native helper with the system's C compiler: OUTDIR/wherry-helper, and OUTDIR/wherry (the same program, as the stub).
//   node scripts/build-native.mjs [OUTDIR]      (default dist/bin)
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const native = join(root, "native");

/** Warnings are errors; the hardening that Debian gives its own programs. */
export const warnings = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wvla", "-Wstrict-prototypes"];
const hardening = ["-fstack-protector-strong", "-D_FORTIFY_SOURCE=2", "-D_GNU_SOURCE", "-fno-plt", "-fstack-clash-protection"];
const link = ["-static-pie", "-Wl,-z,relro,-z,now,-z,noexecstack,--gc-sections,--build-id=none", "-s"];

/** The stub's first words go out before libc's start (native/hello.c), which costs time where CPUID is asked of a hypervisor. */
const early = ["-DWHERRY_EARLY", "-Wl,-e,early_entry"];

/** The sources of the helper; the fuzz target has a main of its own. */
export function nativeSources() {
  return readdirSync(native)
    .filter((name) => name.endsWith(".c") && name !== "fuzz.c")
    .sort()
    .map((name) => join(native, name));
}

function inputsDigest(compiler, flags) {
  const hash = createHash("sha256").update(JSON.stringify([compiler, flags]));
  for (const name of readdirSync(native).sort()) if (/\.[ch]$/.test(name)) hash.update(name).update(readFileSync(join(native, name)));
  return hash.digest("hex");
}

/** Compiles when a source has changed since OUTDIR was built. Returns the helper's path. */
export function buildNative(outDir) {
  const compiler = process.env.CC ?? "gcc";
  const flags = ["-O2", "-fPIE", "-ffunction-sections", "-fdata-sections", ...warnings, ...hardening, ...link];
  if (process.arch === "x64" && !compiler.includes("clang")) flags.push(...early); // whose pragmas are gcc's
  const helper = join(outDir, "wherry-helper");
  const stub = join(outDir, "wherry");
  const stamp = join(outDir, ".native-digest");
  const digest = inputsDigest(compiler, flags);
  if (existsSync(helper) && existsSync(stub) && existsSync(stamp) && readFileSync(stamp, "utf8") === digest) return helper;
  mkdirSync(outDir, { recursive: true });
  // A new file and a rename: the old one may be running.
  const fresh = `${helper}.${process.pid}`;
  try {
    execFileSync(compiler, [...flags, ...nativeSources(), "-o", fresh], { stdio: "inherit" });
    const stubFresh = `${stub}.${process.pid}`;
    copyFileSync(fresh, stubFresh); // no hard link: npm drops those when it installs a package
    renameSync(fresh, helper);
    renameSync(stubFresh, stub);
  } finally {
    rmSync(fresh, { force: true });
  }
  writeFileSync(stamp, digest);
  return helper;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(buildNative(resolve(process.argv[2] ?? join(root, "dist/bin"))));
