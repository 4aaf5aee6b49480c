/** `wherry storage compare --loop`: each driver on a filesystem of its own in a file, and nothing of it left behind. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { StorageCosts } from "#api/types/wherry-json.ts";
import { hasProgram, TestDaemon, wherryPath, whyNot } from "../compat/daemon.ts";
import { run } from "../compat/run.ts";
import { patient } from "../patience.ts";
import { eventually } from "./engine-setup.ts";

const reason = whyNot() ?? ["mkfs.ext4", "mkfs.btrfs"].filter((program) => !hasProgram(program)).map((program) => `${program} is not installed`)[0];
const header = ["DRIVER", "CREATE", "START", "COPY-UP 1 KiB", "COPY-UP LARGE", "500 FILES", "1 LAYER", "20 LAYERS", "120 LAYERS", "10 CONTAINERS", "REMOVE"];

describe.skipIf(reason !== undefined)(`storage compare${reason === undefined ? "" : ` (skipped: ${reason})`}`, () => {
  let daemon: TestDaemon;
  let scratch: string;
  beforeAll(async () => {
    daemon = new TestDaemon({ checked: false });
    await daemon.start();
    scratch = join(daemon.dataRoot, "tmp-storage-compare");
  });
  afterAll(() => daemon?.stop());
  const storage = async (...args: string[]) => {
    const { code, stdout, stderr } = await run([wherryPath, "storage", ...args], {
      env: { WHERRY_HOST: `unix://${daemon.directSocket}` },
      timeoutMs: patient(110_000),
    });
    return { code, out: stdout, err: stderr };
  };
  const compare = (...args: string[]) => storage("compare", ...args);

  const mountsBelow = () =>
    readFileSync("/proc/self/mountinfo", "utf8")
      .split("\n")
      .filter((line) => line.includes(` ${scratch}`));
  /** Loop devices of files below the scratch directory. */
  const devices = () =>
    readdirSync("/sys/block").flatMap((name) => {
      const file = `/sys/block/${name}/loop/backing_file`;
      try {
        const backing = readFileSync(file, "utf8");
        return backing.startsWith(scratch) ? [`${name}: ${backing}`] : [];
      } catch {
        return []; // it has none, or let go of it just now
      }
    });
  const nothingLeft = async () => {
    expect(mountsBelow()).toEqual([]);
    expect(existsSync(scratch)).toBe(false);
    // A lazily detached filesystem lets go of its device a little later.
    expect(
      await eventually(
        async () => devices(),
        (left) => left.length === 0,
        10_000,
      ),
    ).toEqual([]);
  };

  test("JSON: overlay2, vfs, btrfs and erofs are measured; what an earlier one has left mounted goes first", async () => {
    const left = join(scratch, "on-overlay2");
    mkdirSync(left, { recursive: true });
    execFileSync("mount", ["-t", "tmpfs", "tmpfs", left]);
    const names = ["overlay2", "vfs", "btrfs", "erofs"];
    const { code, out, err } = await compare("--loop", "--large", "1", "--json", ...names.flatMap((name) => ["--driver", name]));
    expect([code, err]).toEqual([0, ""]);
    const costs: StorageCosts[] = JSON.parse(out);
    expect(costs.map(({ driver }) => driver)).toEqual(names);
    for (const { driver, tenContainersBytes, ...times } of costs) {
      expect(Object.keys(times).sort(), driver).toEqual(
        ["chain120Ms", "chain1Ms", "chain20Ms", "copyUpLargeMs", "copyUpSmallMs", "createMs", "removeMs", "smallWritesMs", "startMs"].sort(),
      );
      for (const [what, ms] of Object.entries(times)) expect(ms, `${driver}: ${what}`).toBeGreaterThan(0);
      expect(Number.isInteger(tenContainersBytes) && tenContainersBytes >= 0, driver).toBe(true);
    }
    // Copies of a whole image take more room than upper directories with one file.
    const filled = Object.fromEntries(costs.map(({ driver, tenContainersBytes }) => [driver, tenContainersBytes]));
    expect(filled["vfs"]).toBeGreaterThan(10 << 20);
    expect(filled["overlay2"]).toBeLessThan(filled["vfs"] ?? 0);
    await nothingLeft();
  });

  test("the table: one row for each that can run, every column filled", async () => {
    const { code, out, err } = await compare("--loop", "--large", "1");
    expect([code, err]).toEqual([0, ""]);
    const [first = "", ...rows] = out.trimEnd().split("\n");
    expect(first.trim().split(/ {2,}/)).toEqual(header);
    const names = rows.map((row) => row.split(/ {2,}/)[0]);
    expect(names).toEqual(expect.arrayContaining(["overlay2", "vfs", "btrfs", "erofs"]));
    expect(new Set(names).size).toBe(names.length);
    for (const row of rows) {
      const cells = row.trim().split(/ {2,}/).slice(1);
      expect(cells).toHaveLength(header.length - 1);
      for (const [i, cell] of cells.entries())
        expect(cell, header[i + 1]).toMatch(header[i + 1] === "10 CONTAINERS" ? /^[0-9.]+([KMG]i)?B$/ : /^[0-9]+\.[0-9] ms$/);
    }
    await nothingLeft();
  });

  test("a driver that is named and cannot run is an error with the reason", async () => {
    const unknown = await compare("--driver", "nope");
    expect([unknown.code, unknown.err]).toEqual([1, expect.stringContaining('unknown storage driver "nope"')]);
    const { out } = await storage("ls", "--format", "{{.Name}} {{.State}}");
    for (const [, name] of out.matchAll(/^(\S+) (?:\* )?false$/gm)) {
      const refused = await compare("--driver", name ?? "");
      expect([refused.code, refused.err]).toEqual([1, expect.stringContaining(`storage driver ${name}: `)]);
    }
    await nothingLeft();
  });
});
