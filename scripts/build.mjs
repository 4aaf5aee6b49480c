#!/usr/bin/env node
// Builds everything into dist/: the native helper and stub, the bundled programs, and (unless --fast) the type declarations.
//   dist/bin/wherry        the C stub (runs the CLI in the warm daemon, or dist/cli.js)
//   dist/bin/wherry-helper the C helper (the same program)
//   dist/bin/wherryd       starts dist/wherryd.js
//   dist/bin/wherry-runtime the same program: starts dist/runtime.js, the OCI runtime
//   dist/cli.js dist/wherryd.js dist/runtime.js dist/index.js
//   dist/layer-thread.js   what the daemon's threads run
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { execFileSync } from "node:child_process";
import { buildNative } from "./build-native.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, "dist");

/** A shell line that starts Node without NODE_EXTRA_CA_CERTS (it costs 60 ms of every start); the value stays readable for registry clients. */
const launcher = (program) => `#!/bin/sh
# Starts Node. NODE_EXTRA_CA_CERTS costs every Node start some 60 ms, so it is handed on under another name.
here=
case $0 in */*) [ -h "$0" ] || here=\${0%/*} ;; esac
[ -n "$here" ] || here=$(dirname "$(readlink -f "$0")")
if [ -n "$NODE_EXTRA_CA_CERTS" ]; then WHERRY_EXTRA_CA_CERTS=$NODE_EXTRA_CA_CERTS; export WHERRY_EXTRA_CA_CERTS; unset NODE_EXTRA_CA_CERTS; fi
# glibc keeps what was freed, the more so in an arena for each thread (ADR 97). Other C libraries ignore this.
export MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=131072 MALLOC_TRIM_THRESHOLD_=131072
# A caller may stand in a directory that is gone (containerd's shim does when it cleans up); Node would not start there.
cd . 2>/dev/null || cd /
exec "\${WHERRY_NODE:-node}" --max-semi-space-size=2 "$here/../${program}" "$@"
`;

/** What gRPC needs goes into the bundle: a hundred small files take longer to load than one. Other packages stay outside. */
const bundled = {
  name: "bundled",
  setup: (build) => build.onResolve({ filter: /^@(connectrpc|bufbuild)\// }, ({ path }) => ({ path: fileURLToPath(import.meta.resolve(path)) })),
};

/** Bundles the TypeScript programs. */
async function bundle() {
  const { build } = await import("esbuild");
  const version = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).version;
  const common = {
    absWorkingDir: root,
    outdir: "dist",
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    sourcemap: "linked",
    sourcesContent: false,
    packages: "external",
    plugins: [bundled],
    define: { WHERRY_VERSION: JSON.stringify(version) },
    banner: { js: 'import { createRequire as wherryCreateRequire } from "node:module"; const require = wherryCreateRequire(import.meta.url);' },
    logLevel: "warning",
  };
  const daemon = { wherryd: "src/bin/wherryd.ts", cli: "src/bin/wherry.ts", index: "src/bin/index.ts", "layer-thread": "src/bin/layer-thread.ts" };
  await build({ ...common, entryPoints: daemon, splitting: true, chunkNames: "chunks/[name]-[hash]" });
  // One file: every command of the runtime is a Node start, and twenty small files take longer to load than one.
  await build({
    ...common,
    entryPoints: { runtime: "src/bin/wherry-runtime.ts", "runtime-server": "src/bin/runtime-server.ts" },
    minify: true,
    keepNames: true,
  });
}

/** Emits declarations and rewrites `#folder/x.ts` and `./x.ts` specifiers so that they resolve inside the package. */
function declarations() {
  const out = join(dist, "types");
  rmSync(out, { recursive: true, force: true });
  execFileSync(join(root, "node_modules/.bin/tsc"), ["-p", "tsconfig.build.json"], { cwd: root, stdio: "inherit" });
  for (const entry of readdirSync(out, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = join(entry.parentPath ?? entry.path, entry.name);
    const text = readFileSync(file, "utf8")
      .replace(/(["'])#([a-z]+)\/([^"']+)\.ts\1/g, (_m, q, folder, rest) => {
        const target = relative(dirname(file), join(out, folder, rest));
        return `${q}${target.startsWith(".") ? target : `./${target}`}.js${q}`;
      })
      .replace(/(["'])(\.{1,2}\/[^"']+)\.ts\1/g, "$1$2.js$1");
    writeFileSync(file, text);
  }
}

/** The whole build. `fast` leaves the declarations out. */
export async function buildAll({ fast = false } = {}) {
  mkdirSync(join(dist, "bin"), { recursive: true });
  rmSync(join(dist, "chunks"), { recursive: true, force: true });
  buildNative(join(dist, "bin"));
  await bundle();
  for (const data of readdirSync(join(root, "src"), { recursive: true }).filter((f) => String(f).endsWith(".data.json"))) {
    cpSync(join(root, "src", String(data)), join(dist, "data", String(data)));
  }
  const [daemon, runtime, fresh] = ["wherryd", "wherry-runtime", "wherry-runtime.new"].map((name) => join(dist, "bin", name));
  writeFileSync(daemon, launcher("wherryd.js"));
  chmodSync(daemon, 0o755);
  // A new file and a rename: the old one may be running.
  cpSync(join(dist, "bin/wherry-helper"), fresh);
  renameSync(fresh, runtime);
  if (!fast) declarations();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildAll({ fast: process.argv.includes("--fast") });
