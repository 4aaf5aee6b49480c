/**
 * Projects as people have them (root): a Node app with `npm ci`, C with packages of apt, a static site. Each from nothing, again, and after one line has changed: what the cache answers, and what it says of the rest.
 * Where packages come from is this machine's npm and apt to say; what cannot be reached is skipped with the reason.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { enginesToBuildOn, putFiles } from "./building.ts";
import { hasProgram, TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { ok, type Result, run } from "./run.ts";

const reason = whyNot();
if (reason) console.warn(`build-projects: skipped: ${reason}`);

/** Packages take their time. */
const longMs = 400_000;

describe.skipIf(reason !== undefined)(`projects${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const {
    work,
    engines: [daemon],
  } = enginesToBuildOn("wt-projects-", [new TestDaemon()]);
  const env = { WHERRY_HOST: daemon.host };
  const wherry = (...args: string[]): Promise<Result> => run([wherryPath, ...args], { env, timeoutMs: longMs });

  const project = (name: string, files: Readonly<Record<string, string>>) => {
    const folder = join(work, name);
    const put = (file: string, content: string) => putFiles(folder, { [file]: content });
    putFiles(folder, files);
    return { folder, put, edit: (file: string, from: string, to: string) => put(file, readFileSync(join(folder, file), "utf8").replace(from, to)) };
  };
  /** Each step after FROM that does something to the root, as "COPY src src: hit", or with why not. */
  const build = async (folder: string, ...args: string[]): Promise<Record<string, string>> => {
    const result = await wherry("build", "--network", "host", "--progress", "plain", "--explain-cache", ...args, folder);
    if (result.code !== 0) throw new Error(result.stderr);
    const names = new Map<string, string>();
    const steps: Record<string, string> = {};
    for (const [, number = "", name, outcome] of result.stderr.matchAll(/^#(\d+) (?:\[.*?\] ((?:RUN|COPY|ADD|WORKDIR).*)|(CACHED|not cached: .*))$/gm)) {
      const known = names.get(number);
      if (name !== undefined) names.set(number, name.replace(/--mount=\S+ /g, ""));
      else if (known !== undefined && outcome !== undefined) steps[known] = outcome === "CACHED" ? "hit" : outcome.replace("not cached: ", "");
    }
    return steps;
  };
  const allHit = (steps: Record<string, string>) => Object.fromEntries(Object.keys(steps).map((name) => [name, "hit"]));
  const output = async (...args: string[]) => ok([wherryPath, "run", "--rm", "--network", "none", ...args], { env });
  const before = "the step before it has another result";

  test("a static site: pages through a template, in a stage of its own", async () => {
    const { folder, edit } = project("site", {
      Dockerfile: [
        "FROM busybox AS site",
        "WORKDIR /site",
        "COPY template.html .",
        "COPY pages pages",
        'RUN mkdir out && for page in pages/*; do sed -e "/CONTENT/{r $page" -e "d}" template.html >out/$(basename $page .txt).html; done',
        "FROM busybox",
        "COPY --from=site /site/out /www",
        'CMD ["httpd", "-f", "-h", "/www"]',
        "",
      ].join("\n"),
      "template.html": "<body>\nCONTENT\n</body>\n",
      "pages/index.txt": "Welcome\n",
      "pages/about.txt": "About us\n",
    });
    const cold = await build(folder, "-t", "site");
    expect(Object.keys(cold)).toHaveLength(5);
    expect(Object.values(cold)).not.toContain("hit");
    expect(await output("site", "cat", "/www/about.html")).toBe("<body>\nAbout us\n</body>");
    expect(await build(folder, "-t", "site")).toEqual(allHit(cold));
    edit("pages/about.txt", "us", "everybody");
    const changed = await build(folder, "-t", "site");
    expect(Object.values(changed)).toEqual(["hit", "hit", "1 of 2 files changed: about.txt", before, "1 of 2 files changed: about.html"]);
    expect(await output("site", "cat", "/www/about.html")).toContain("About everybody");
  });

  /** Why npm's packages are not to be had here; the files of a project with a lock file, else. */
  const npmProject = (): string | Record<string, string> => {
    if (!hasProgram("npm") || !hasProgram("ldd")) return "no npm, or no ldd";
    const folder = mkdtempSync(join(work, "lock-"));
    const manifest = JSON.stringify({ name: "app", version: "1.0.0", private: true, dependencies: { ms: "2.1.3", picocolors: "1.1.1" } }, undefined, 2);
    writeFileSync(join(folder, "package.json"), manifest);
    const locked = spawnSync("npm", ["install", "--package-lock-only", "--no-audit", "--no-fund"], { cwd: folder, encoding: "utf8", timeout: 60_000 });
    if (locked.status !== 0) return `npm's registry does not answer: ${locked.stderr.trim().split("\n")[0] ?? ""}`;
    return { "package.json": manifest, "package-lock.json": readFileSync(join(folder, "package-lock.json"), "utf8") };
  };

  test("a Node app: npm ci runs again for another lock file only, and its result counts by what is in it", { timeout: longMs }, async (context) => {
    const packages = npmProject();
    if (typeof packages === "string") return context.skip(packages);
    // This machine's node and npm as an image.
    const base = project("node", { Dockerfile: "FROM busybox\nCOPY root /\n" });
    const node = realpathSync(process.execPath);
    const libraries = [...spawnSync("ldd", [node], { encoding: "utf8" }).stdout.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path!);
    for (const path of [...libraries, "/etc/ssl/certs/ca-certificates.crt"]) {
      mkdirSync(dirname(join(base.folder, "root", path)), { recursive: true });
      copyFileSync(path, join(base.folder, "root", path));
    }
    mkdirSync(join(base.folder, "root/usr/bin"), { recursive: true });
    copyFileSync(node, join(base.folder, "root/usr/bin/node"));
    const npm = dirname(dirname(realpathSync(spawnSync("sh", ["-c", "command -v npm"], { encoding: "utf8" }).stdout.trim())));
    cpSync(npm, join(base.folder, "root/usr/lib/npm"), { recursive: true, dereference: true });
    await build(base.folder, "-t", "node-here");

    const config = (name: string) => spawnSync("npm", ["config", "get", name], { encoding: "utf8" }).stdout.trim();
    const npmrc = join(work, "npmrc");
    const user = spawnSync("cat", [config("userconfig")], { encoding: "utf8" }).stdout;
    writeFileSync(npmrc, `${user}\nregistry=${config("registry")}\n`);
    const { folder, edit } = project("app", {
      ...packages,
      Dockerfile: [
        "FROM node-here AS deps",
        "ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt",
        "WORKDIR /app",
        "COPY package.json package-lock.json ./",
        "RUN --mount=type=secret,id=npmrc,target=/root/.npmrc --mount=type=cache,target=/root/.npm node /usr/lib/npm/bin/npm-cli.js ci --omit=dev",
        "FROM node-here",
        "WORKDIR /app",
        "COPY --from=deps /app/node_modules node_modules",
        "COPY src src",
        'CMD ["node", "src/main.js"]',
        "",
      ].join("\n"),
      ".dockerignore": "node_modules\n",
      "src/main.js": 'console.log(require("ms")(require("./hours.js") * 3600000));\n',
      "src/hours.js": "module.exports = 2;\n",
    });
    const args = ["-t", "app", "--secret", `id=npmrc,src=${npmrc}`];
    const cold = await build(folder, ...args);
    expect(Object.values(cold)).not.toContain("hit");
    expect(await output("app")).toBe("2h");
    const warm = await build(folder, ...args);
    expect(warm).toEqual(allHit(warm));
    edit("src/hours.js", "2", "3");
    const changed = await build(folder, ...args);
    expect(changed).toEqual({ ...allHit(warm), "COPY src src": "1 of 2 files changed: hours.js" });
    expect(await output("app")).toBe("3h");
    // Another version of the app itself: the packages are fetched again, and are the same.
    edit("package.json", "1.0.0", "1.0.1");
    const { "COPY package.json package-lock.json ./": copied, ...others } = await build(folder, ...args);
    expect(copied).toBe("1 of 2 files changed: package.json");
    expect(Object.entries(others).filter(([, outcome]) => outcome !== "hit")).toEqual([[expect.stringContaining("npm-cli.js ci"), before]]);
  });

  test("C with a compiler of apt's, in a Debian of debootstrap's: packages stay, what is made of the sources is made again", {
    timeout: longMs,
  }, async (context) => {
    if (!hasProgram("debootstrap")) return context.skip("no debootstrap");
    const made = await wherry("image", "bootstrap", "debian:bookworm");
    if (made.code !== 0 && /debootstrap/.test(made.stderr)) return context.skip(made.stderr.trim().split("\n")[0] ?? "debootstrap fails");
    expect(made.code, made.stderr).toBe(0);
    const { folder, edit } = project("c", {
      Dockerfile: [
        "FROM debian:bookworm AS build",
        "ENV DEBIAN_FRONTEND=noninteractive",
        "RUN --mount=type=bind,from=apt,target=/etc/apt/apt.conf.d apt-get update && apt-get install -y --no-install-recommends tcc libc6-dev && rm -rf /var/lib/apt/lists",
        "WORKDIR /src",
        "COPY *.c *.h ./",
        "RUN tcc -o hello main.c greet.c",
        "FROM debian:bookworm",
        "COPY --from=build /src/hello /usr/local/bin/hello",
        'CMD ["hello"]',
        "",
      ].join("\n"),
      "main.c": '#include "greet.h"\nint main(void) { greet("world"); return 0; }\n',
      "greet.c": '#include <stdio.h>\n#include "greet.h"\n/* says it */\nvoid greet(const char *who) { printf("hello, %s\\n", who); }\n',
      "greet.h": "void greet(const char *who);\n",
    });
    const args = ["-t", "hello", "--build-context", "apt=/etc/apt/apt.conf.d"];
    const cold = await build(folder, ...args);
    expect(Object.values(cold)).not.toContain("hit");
    expect(await output("hello")).toBe("hello, world");
    expect(await build(folder, ...args)).toEqual(allHit(cold));
    edit("greet.c", "hello,", "good day,");
    const changed = await build(folder, ...args);
    expect(Object.values(changed)).toEqual(["hit", "hit", "1 of 3 files changed: greet.c", before, "1 of 1 files changed: hello"]);
    expect(await output("hello")).toBe("good day, world");
    // The same program of other sources: what is built on it is not built again.
    edit("greet.c", "says it", "does so");
    const commented = await build(folder, ...args);
    expect(Object.values(commented)).toEqual(["hit", "hit", "1 of 3 files changed: greet.c", before, "hit"]);
  });
});
