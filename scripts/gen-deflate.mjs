#!/usr/bin/env node
// native/deflate.ts (AssemblyScript) → src/unionfs/tar/deflate.gen.ts: the compressor as WebAssembly. Run it when native/deflate.ts changes (a unit test tells).
// The compiler is fetched for this run only: it is 100 MB, and nobody else needs it. The same source gives the same bytes.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const compiler = "assemblyscript@0.28.20";
const source = "native/deflate.ts";
const dir = mkdtempSync(join(tmpdir(), "wherry-deflate-"));
try {
  copyFileSync(source, join(dir, "deflate.ts"));
  // Memory is laid out by the source: no allocator ("stub" is empty when nothing allocates), 42 pages of 64 KiB.
  const options = ["-O3", "--noAssert", "--runtime", "stub", "--initialMemory", "42", "--maximumMemory", "42"];
  execFileSync("npx", ["--yes", "--package", compiler, "asc", "deflate.ts", ...options, "-o", "deflate.wasm"], {
    cwd: dir,
    stdio: ["ignore", "inherit", "inherit"],
  });
  const wasm = readFileSync(join(dir, "deflate.wasm"));
  const digest = createHash("sha256").update(readFileSync(source)).digest("hex");
  writeFileSync(
    "src/unionfs/tar/deflate.gen.ts",
    `// Made by scripts/gen-deflate.mjs with ${compiler} out of ${source}: do not edit.
/** SHA-256 of the source. */
export const deflateSource = "${digest}";
/** The WebAssembly module, base64. */
export const deflateWasm: string =
  "${wasm.toString("base64")}";
`,
  );
} finally {
  rmSync(dir, { recursive: true, force: true });
}
