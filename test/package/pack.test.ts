// The package that `npm pack` makes installs and runs in an empty directory on a machine without a compiler.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";

const root = dirname(dirname(import.meta.dirname));
const work = mkdtempSync(join(tmpdir(), "wherry-pack-"));
afterAll(() => rmSync(work, { recursive: true, force: true }));

describe("npm pack", () => {
  test("installs without a compiler and its programs run", () => {
    const packed = JSON.parse(execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", work], { cwd: root, encoding: "utf8" })) as {
      filename: string;
      files: { path: string }[];
    }[];
    const files = packed[0]?.files.map((f) => f.path) ?? [];
    expect(files).toEqual(
      expect.arrayContaining([
        "dist/bin/wherry",
        "dist/bin/wherry-helper",
        "dist/bin/wherryd",
        "dist/bin/wherry-runtime",
        "dist/runtime.cjs",
        "dist/cli.cjs",
        "dist/wherryd.cjs",
        "dist/index.js",
        "README.md",
        "LICENSE",
      ]),
    );
    expect(files.filter((f) => f.startsWith("src/") || f.startsWith("native/") || f.startsWith("test/") || f.startsWith("dist/compiled/"))).toEqual([]);

    // A PATH with node and the base tools only: no cc, no gcc, no make, no python.
    const bin = join(work, "bin");
    mkdirSync(bin);
    const tools = ["node", "npm", "sh", "dirname", "readlink", "env", "uname"];
    for (const tool of tools) symlinkSync(execFileSync("sh", ["-c", `command -v ${tool}`], { encoding: "utf8" }).trim(), join(bin, tool));
    const env = { ...process.env, PATH: bin, HOME: work, npm_config_cache: join(work, "cache") };
    expect(() => execFileSync("cc", ["--version"], { env })).toThrow();

    const app = join(work, "app");
    mkdirSync(app);
    writeFileSync(join(app, "package.json"), JSON.stringify({ name: "app", version: "1.0.0", type: "module", private: true }));
    execFileSync("npm", ["install", "--no-fund", "--no-audit", join(work, packed[0]?.filename ?? "")], { cwd: app, env, stdio: "pipe" });
    expect(readdirSync(join(app, "node_modules/.bin"))).toEqual(expect.arrayContaining(["wherry", "wherryd", "wherry-runtime"]));
    expect(existsSync(join(app, "node_modules/wherry/dist/bin/wherry-helper"))).toBe(true);

    const offline = { ...env, WHERRY_HOST: `unix://${work}/none/wherry.sock` };
    const version = execFileSync(join(app, "node_modules/.bin/wherry"), ["--version"], { env: offline, encoding: "utf8" });
    expect(version).toMatch(/^wherry version \d+\.\d+\.\d+/i);
    expect(execFileSync(join(app, "node_modules/.bin/wherryd"), ["--version"], { env: offline, encoding: "utf8" })).toMatch(/\d+\.\d+\.\d+/);
    expect(execFileSync(join(app, "node_modules/.bin/wherry-runtime"), ["--version"], { env: offline, encoding: "utf8" })).toMatch(/^spec: 1\.2\.0$/m);
    writeFileSync(join(app, "use.js"), 'import { openEngine } from "wherry"; console.log(typeof openEngine);\n');
    expect(execFileSync(join(bin, "node"), ["use.js"], { cwd: app, env: offline, encoding: "utf8" })).toBe("function\n");
  });
});
