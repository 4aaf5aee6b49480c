/**
 * `kill -9` before every step of load, commit, save, rmi and prune. What the next start finds is swept: then the store has what it had before, or what the
 * operation was to give, down to the last file; no image has lost a layer; and the same operation works.
 *
 * Without WHERRY_CRASH_STEPS=all (`npm run test:crash`) a sample of the steps is taken.
 * @module
 */
import { execFileSync, spawn } from "node:child_process";
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Helper } from "#linux/helper.ts";
import { startHelper } from "#linux/helper-client.ts";
import { collect } from "#unionfs/testing/tar-builder.ts";
import { dockerArchive, gzip, rootLayer, streamOf, tarOf } from "../fixtures.ts";
import { nativeHelper } from "../suites/native-helper.ts";
import type { CrashRequest, Operation } from "./crash-child.ts";
import { openStore, type StoreParts, sweep } from "./crash-store.ts";

const everyStep = process.env["WHERRY_CRASH_STEPS"] === "all";
/** Steps of an operation that are tried, spread evenly. */
const sampled: Readonly<Record<string, number>> = { overlay2: 7, vfs: 3 };

/** Every step with two processes and a start each takes minutes. */
const timeoutMs = everyStep ? 1_800_000 : 120_000;

const base = rootLayer();
const upper = tarOf([{ name: "etc", type: "dir" }, { name: "etc/.wh.motd" }, { name: "etc/big", data: "b".repeat(300_000) }]);
const twice = tarOf([
  { name: "f", data: "first" },
  { name: "f", data: "second" },
]);
const stored = dockerArchive([
  { layers: [base, upper], tags: ["app:1"] },
  { layers: [base, twice], tags: ["other:1"] },
]);
const loaded = dockerArchive([
  { layers: [base, tarOf([{ name: "new", data: "n".repeat(200_000) }]), twice], tags: ["new:1", "app:1"], compress: gzip },
  { layers: [tarOf([{ name: "alone" }])] },
]);

interface Case {
  readonly operation: Operation;
  readonly threads: boolean;
  readonly name: string;
}

/** Every file of a store with its length; names that are made up anew each time, without them. */
function filesOf(root: string): string[] {
  const lines: string[] = [];
  const visit = (path: string) => {
    for (const name of readdirSync(join(root, path))) {
      const at = join(path, name);
      const stat = lstatSync(join(root, at));
      if (stat.isDirectory()) visit(at);
      // A log of layers that come and go, which a start makes shorter when it has become long.
      if (/^layerdb\/[^/]+\.(layers|records)$/.test(at)) continue;
      // Lengths of JSON with a time or a boot in it are the same as well; a link's name is not.
      const shown = at.replace(/\/l\/[A-Z2-7]{26}$/, "/l/LINK");
      lines.push(`${shown} ${stat.isFile() ? stat.size : "-"}`);
    }
  };
  visit("");
  return lines.sort();
}

/** Ids and names, every layer read to its end: its digest is verified by that. */
async function imagesOf({ images, layers, complaints }: StoreParts): Promise<string[]> {
  const lines: string[] = [];
  for (const image of await images.list()) {
    lines.push(`${image.id} ${image.repoTags.join(" ")}`);
    for (const chain of image.chainIds) await collect(await layers.tar(chain));
  }
  expect(complaints).toEqual([]);
  return lines.sort();
}

describe.runIf(process.getuid?.() === 0)("killed at a step", () => {
  let root: string;
  let program: string;
  let helper: Helper;
  const helperPath = nativeHelper();

  beforeAll(async () => {
    root = mkdtempSync("/var/tmp/wherry-crash-");
    program = join(root, "child.mjs");
    const entry = join(import.meta.dirname, "crash-child.ts");
    await build({ entryPoints: [entry], outfile: program, bundle: true, platform: "node", format: "esm", target: "node20", logLevel: "error" });
    mkdirSync(join(root, "run"));
    helper = await startHelper({ helperPath, execRoot: join(root, "run"), log: () => undefined });
    writeFileSync(join(root, "loaded.tar"), loaded);
  });
  afterAll(async () => {
    await helper.close();
    rmSync(root, { recursive: true, force: true });
  });

  /** Runs the child; steps it had, or undefined when it was killed. */
  async function child(data: string, driver: string, { operation, threads }: Case, failAt: number): Promise<number | undefined> {
    const execRoot = mkdtempSync(join(root, "run-"));
    const archive = operation === "load" ? join(root, "loaded.tar") : join(root, "saved.tar");
    const request: CrashRequest = { root: data, execRoot, helperPath, driver, operation, threads, failAt, archive };
    const running = spawn(process.execPath, [program, JSON.stringify(request)], { stdio: ["ignore", "pipe", "inherit"] });
    let out = "";
    running.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
    const [code, signal] = await new Promise<[number | null, string | null]>((resolve) => running.on("close", (...end) => resolve(end)));
    rmSync(execRoot, { recursive: true, force: true });
    if (signal === "SIGKILL") return undefined;
    if (code !== 0) throw new Error(`${operation} ended with ${code}`);
    return Number(out);
  }

  /** A store with two images, and with a container's snapshot that has something in it. */
  async function prepare(driver: string): Promise<string> {
    const data = join(root, `before-${driver}`);
    const parts = await openStore(data, driver, helper);
    await parts.images.load(streamOf(stored, 64 * 1024), () => undefined);
    const { chainId } = await parts.images.get("app:1");
    await parts.driver.prepare("container", chainId);
    await parts.driver.mounts("container");
    writeFileSync(join(data, driver, "container/diff/written"), "w".repeat(5000));
    await sweep(parts, new Set(["container"]));
    return data;
  }

  async function restarted(data: string, driver: string): Promise<{ files: string[]; images: string[] }> {
    const parts = await openStore(data, driver, helper);
    await sweep(parts, new Set(["container"]));
    return { images: await imagesOf(parts), files: filesOf(data) };
  }

  function copyOf(data: string): string {
    const copy = join(root, "work");
    rmSync(copy, { recursive: true, force: true });
    execFileSync("cp", ["-a", data, copy]);
    return copy;
  }

  describe.each(Object.keys(sampled))("%s", (driver) => {
    let data: string;
    beforeAll(async () => {
      data = await prepare(driver);
    });

    it.each<Case>([
      { operation: "load", threads: false, name: "load" },
      { operation: "load", threads: true, name: "load by threads" },
      { operation: "commit", threads: false, name: "commit" },
      { operation: "save", threads: false, name: "save" },
      { operation: "rmi", threads: false, name: "rmi" },
      { operation: "prune", threads: false, name: "prune" },
    ])("$name", { timeout: timeoutMs }, async (what) => {
      const { operation } = what;
      const before = await restarted(copyOf(data), driver);
      const work = copyOf(data);
      const total = await child(work, driver, what, 0);
      const done = await restarted(work, driver);
      if (total === undefined || total < 3) throw new Error(`${operation} has ${total} steps`);
      if (operation === "save") expect(done).toEqual(before);
      else expect(done.images).not.toEqual(before.images);
      const count = everyStep ? total : Math.min(total, sampled[driver] ?? 3);
      const steps = Array.from({ length: count }, (_, i) => 1 + Math.round((i * (total - 1)) / Math.max(1, count - 1)));
      for (const at of steps) {
        const struck = copyOf(data);
        await child(struck, driver, what, at);
        const found = await restarted(struck, driver);
        const expected = found.images.join() === done.images.join() ? done : before;
        expect({ at, ...found }).toEqual({ at, ...expected });
        if (expected === done) continue;
        await child(struck, driver, what, 0);
        expect({ at, again: await restarted(struck, driver) }).toEqual({ at, again: done });
      }
    });
  });
});
