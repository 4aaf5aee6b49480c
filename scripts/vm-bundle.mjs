// Tests for a VM as one file each: there, an emulated CPU would take minutes to make JavaScript of hundreds of small TypeScript files.
import { readFile, writeFile } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";

const ts = /\.ts$/;

/** A module that is bundled still knows where it was: tests find other files by that. */
const ownPlace = {
  name: "own place",
  setup({ onLoad }) {
    onLoad({ filter: ts }, async ({ path }) => {
      const text = await readFile(path, "utf8");
      const contents = text
        .replaceAll("import.meta.url", JSON.stringify(pathToFileURL(path).href))
        .replaceAll("import.meta.dirname", JSON.stringify(dirname(path)));
      return { contents, loader: "ts" };
    });
  },
};

/** Writes the tests, and a configuration of vitest's for them, below `out`; the paths of the tests, in the order of `tests`. */
export async function bundleTests(root, tests, out) {
  const common = {
    absWorkingDir: root,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    packages: "external",
    logLevel: "warning",
    plugins: [ownPlace],
  };
  const names = tests.map((test) => basename(test).replace(ts, ".mjs"));
  // One by one: two test files share nothing in vitest, either.
  await Promise.all(tests.map((test, i) => build({ ...common, entryPoints: [test], outfile: join(out, names[i]), sourcemap: "linked" })));
  await build({ ...common, entryPoints: ["test/patience.ts"], outfile: join(out, "patience.mjs") });
  // Node runs the bundles as they are: there is nothing to transform any more.
  const settings = {
    root,
    include: [`${relative(root, out)}/*.test.mjs`],
    fileParallelism: false,
    pool: "forks",
    experimental: { viteModuleRunner: false, nodeLoader: false },
  };
  const config = `import { integrationTimes } from "./patience.mjs";\nexport default { test: { ...${JSON.stringify(settings)}, ...integrationTimes } };\n`;
  await writeFile(join(out, "vitest.config.mjs"), config);
  return names.map((name) => join(out, name));
}
