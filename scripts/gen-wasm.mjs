#!/usr/bin/env node
// native/{deflate,inflate}.ts (AssemblyScript) → src/unionfs/tar/{deflate,inflate}.gen.ts: compressor and decompressor as WebAssembly. Run it when one of them changes (unit tests tell).
// The compiler is fetched for this run only: it is 100 MB, and nobody else needs it. The same source gives the same bytes.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const compiler = "assemblyscript@0.28.20";
/** Pages of 64 KiB of each: memory is laid out by the source. */
const pages = { deflate: "42", inflate: "23" };
const dir = mkdtempSync(join(tmpdir(), "wherry-wasm-"));
try {
  for (const [name, count] of Object.entries(pages)) {
    const source = `native/${name}.ts`;
    copyFileSync(source, join(dir, `${name}.ts`));
    // No allocator: "stub" is empty when nothing allocates.
    const options = ["-O3", "--noAssert", "--runtime", "stub", "--initialMemory", count, "--maximumMemory", count];
    execFileSync("npx", ["--yes", "--package", compiler, "asc", `${name}.ts`, ...options, "-o", `${name}.wasm`], {
      cwd: dir,
      stdio: ["ignore", "inherit", "inherit"],
    });
    const wasm = readFileSync(join(dir, `${name}.wasm`));
    const digest = createHash("sha256").update(readFileSync(source)).digest("hex");
    writeFileSync(
      `src/unionfs/tar/${name}.gen.ts`,
      `// Made by scripts/gen-wasm.mjs with ${compiler} out of ${source}: do not edit.
/** SHA-256 of the source. */
export const ${name}Source = "${digest}";
/** The WebAssembly module, base64. */
export const ${name}Wasm: string =
  "${wasm.toString("base64")}";
`,
    );
  }
} finally {
  rmSync(dir, { recursive: true, force: true });
}
