#!/usr/bin/env node
// Builds everything into dist/: the native helper and stub, the bundled programs, and (unless --fast) the type declarations.
//   dist/bin/wherry         the C stub (runs the CLI in the warm daemon, or dist/cli.cjs)
//   dist/bin/wherry-helper  the C helper (the same program)
//   dist/bin/wherryd        starts dist/wherryd.cjs
//   dist/bin/wherry-runtime the same program: starts dist/runtime.cjs, the OCI runtime
//   dist/NAME.cjs           starts a program: dist/programs/NAME-HASH.cjs, by dist/load-program.cjs (docs/adr/0098)
//   dist/compiled/          what V8 made of them, written by whoever runs first: the build itself
//   dist/index.js           the library
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
export MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=131072 MALLOC_TRIM_THRESHOLD_=1048576
# A caller may stand in a directory that is gone (containerd's shim does when it cleans up); Node would not start there.
cd . 2>/dev/null || cd /
# V8 collects everything in a pause, and with it what its compiler knows of shapes that nobody has then: what comes next is interpreted again (ADR 100).
exec "\${WHERRY_NODE:-node}" --max-semi-space-size=2 --no-memory-reducer "$here/../${program}" "$@"
`;

/** The programs, and which of them stay: load-program.ts. */
const programs = {
  wherryd: { source: "wherryd.ts", stays: true },
  cli: { source: "wherry.ts" },
  runtime: { source: "wherry-runtime.ts" },
  // Threads of the daemon.
  "layer-thread": { source: "layer-thread.ts" },
  "runtime-server": { source: "runtime-server.ts" },
};

/** The library's importer has installed the other packages; what gRPC needs is a hundred small files, which take longer to load than one. */
const bundled = {
  name: "bundled",
  setup: (build) => build.onResolve({ filter: /^@(connectrpc|bufbuild)\// }, ({ path }) => ({ path: fileURLToPath(import.meta.resolve(path)) })),
};

/** Bundles the TypeScript: the library, and each program with all that it needs in one file. */
async function bundle() {
  const { build } = await import("esbuild");
  const version = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).version;
  const common = {
    absWorkingDir: root,
    outdir: "dist",
    bundle: true,
    platform: "node",
    target: "node20",
    sourcemap: "linked",
    sourcesContent: false,
    metafile: true,
    define: { WHERRY_VERSION: JSON.stringify(version) },
    logLevel: "warning",
  };
  const library = await build({
    ...common,
    entryPoints: { index: "src/bin/index.ts" },
    format: "esm",
    splitting: true,
    chunkNames: "chunks/[name]-[hash]",
    packages: "external",
    plugins: [bundled],
    banner: { js: 'import { createRequire as wherryCreateRequire } from "node:module"; const require = wherryCreateRequire(import.meta.url);' },
  });
  const whole = await build({
    ...common,
    outdir: "dist/programs",
    entryPoints: Object.fromEntries(Object.entries(programs).map(([name, { source }]) => [name, `src/bin/${source}`])),
    entryNames: "[name]-[hash]",
    outExtension: { ".js": ".cjs" },
    format: "cjs",
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: "none",
    banner: { js: "(function (exports, require, module, wherryUrl) {" },
    footer: { js: "})" },
    define: { ...common.define, "import.meta.url": "wherryUrl" },
  });
  await build({ ...common, entryPoints: ["src/bin/load-program.ts"], outExtension: { ".js": ".cjs" }, format: "cjs" });
  for (const [file, { entryPoint }] of Object.entries(whole.metafile.outputs)) {
    const found = Object.entries(programs).find(([, { source }]) => entryPoint === `src/bin/${source}`);
    if (found === undefined) continue; // a source map
    const [name, { stays = false }] = found;
    const options = stays ? ", { stays: true }" : "";
    writeFileSync(join(dist, `${name}.cjs`), `require("./load-program.cjs").loadProgram(__filename, ${JSON.stringify(relative("dist", file))}${options});\n`);
  }
  licences([...Object.keys(whole.metafile.inputs), ...Object.keys(library.metafile.inputs)]);
}

/** The licences of the packages that are in a bundle go with it. */
function licences(inputs) {
  const packages = new Set(inputs.flatMap((input) => /^node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input) ?? []));
  const texts = [...packages].sort().map((folder) => {
    const file = readdirSync(join(root, folder)).find((name) => /^licen[sc]e/i.test(name));
    const { name, version, license } = JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8"));
    const text = file === undefined ? license : readFileSync(join(root, folder, file), "utf8").trim();
    return `${name} ${version}\n\n${text}\n`;
  });
  writeFileSync(join(dist, "THIRD-PARTY-LICENSES.txt"), texts.join(`\n${"-".repeat(80)}\n\n`));
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
  for (const folder of ["chunks", "programs", "compiled"]) rmSync(join(dist, folder), { recursive: true, force: true });
  buildNative(join(dist, "bin"));
  await bundle();
  const [daemon, runtime, fresh] = ["wherryd", "wherry-runtime", "wherry-runtime.new"].map((name) => join(dist, "bin", name));
  writeFileSync(daemon, launcher("wherryd.cjs"));
  chmodSync(daemon, 0o755);
  // A new file and a rename: the old one may be running.
  cpSync(join(dist, "bin/wherry-helper"), fresh);
  renameSync(fresh, runtime);
  // Each keeps what V8 has compiled of it: the first start is as fast as others.
  for (const program of [daemon, join(dist, "bin/wherry"), runtime])
    execFileSync(program, ["--version"], { env: { PATH: process.env["PATH"] }, stdio: ["ignore", "ignore", "inherit"] });
  if (!fast) declarations();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildAll({ fast: process.argv.includes("--fast") });
