/** Every storage driver under real containers: what a root does, that a FUSE program's mount shows nowhere, and that nothing stays. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type LoopFilesystem, loopFilesystem } from "../suites/loop-filesystem.ts";
import { whyNoZfs, type ZfsPool, zfsPool } from "../suites/zfs-pool.ts";
import { hasProgram, TestDaemon, whyNot, wherryPath } from "./daemon.ts";
import { run } from "./run.ts";

const places: readonly {
  readonly driver: string;
  readonly filesystem?: "btrfs" | "xfs" | "zfs";
  readonly program?: string;
  readonly faults?: readonly string[];
}[] = [
  { driver: "overlay2" },
  { driver: "overlay2", filesystem: "xfs" },
  { driver: "overlay" },
  { driver: "vfs" },
  { driver: "aufs" },
  { driver: "btrfs", filesystem: "btrfs" },
  // zfs-fuse 0.7 sets no times of nanoseconds and exchanges no names.
  { driver: "zfs", filesystem: "zfs", faults: ["times of a lower file", "RENAME_EXCHANGE"] },
  // Faults of Debian 12's fuse-overlayfs 1.10, told in docs/storage-drivers.md.
  {
    driver: "fuse-overlayfs",
    program: "fuse-overlayfs",
    faults: ["made again it is empty", "a file where a directory was", "a name of 255 bytes, and none longer"],
  },
];

const reason = whyNot() ?? (hasProgram("gcc") ? undefined : "no gcc");
if (reason !== undefined) console.warn(`skipped: storage drivers under containers (${reason})`);

describe.skipIf(reason !== undefined)("storage drivers under containers", () => {
  const base = mkdtempSync(join(tmpdir(), "storage-c-"));
  let image: Buffer;
  beforeAll(() => {
    const root = join(base, "root");
    mkdirSync(root);
    execFileSync("gcc", ["-O1", "-static", "-o", join(root, "semantics"), join(import.meta.dirname, "../suites/union-semantics.c")]);
    execFileSync(
      "sh",
      [
        "-euc",
        `mkdir -p t/dir t/full t/many t/d; for n in f trunc otrunc g mode owner times xattr mapped r1 r3 gone open dir/x full/a full/b; do printf lower > t/$n; done
        i=0; while [ $i -lt 300 ]; do : > t/many/$i; i=$((i + 1)); done; ln -s d t/sym; python3 -c 'import os; os.setxattr("t/xattr", "user.image", b"i")'`,
      ],
      { cwd: root },
    );
    image = execFileSync("tar", ["-c", "--xattrs", "--xattrs-include=*", "."], { cwd: root, maxBuffer: 1 << 26 });
  });
  afterAll(() => rmSync(base, { recursive: true, force: true }));

  for (const { driver, filesystem, program, faults = [] } of places)
    it(`${driver} on ${filesystem ?? "the temporary directory's filesystem"}: a container's root does what a file system does`, async (context) => {
      const noZfs = filesystem === "zfs" ? whyNoZfs() : undefined;
      if (noZfs !== undefined) context.skip(noZfs);
      for (const needed of [program, filesystem === undefined || filesystem === "zfs" ? undefined : `mkfs.${filesystem}`])
        if (needed !== undefined && !hasProgram(needed)) context.skip(`${needed} is not installed`);
      let made: LoopFilesystem | ZfsPool | undefined;
      if (filesystem !== undefined) {
        made = filesystem === "zfs" ? await zfsPool(base) : loopFilesystem(filesystem, base);
        if (made === undefined) context.skip(`this kernel mounts no ${filesystem}`);
      }
      const daemon = new TestDaemon({ base: mkdtempSync(join(made?.directory ?? base, "d-")), args: ["--storage-driver", driver] });
      const env = { WHERRY_HOST: daemon.host };
      try {
        await daemon.start();
        const cli = async (...args: string[]) => {
          const result = await run([wherryPath, ...args], { env });
          expect(result.code, `${args.join(" ")}: ${result.stdout}${result.stderr}`).toBe(0);
          return result.stdout;
        };
        expect(await cli("info", "--format", "{{.Driver}}")).toBe(`${driver}\n`);
        const imported = await run([wherryPath, "import", "-", "semantics"], { env, input: image });
        expect(imported.code, imported.stderr).toBe(0);
        const semantics = async (...flags: string[]) => {
          const result = await run([wherryPath, "run", "--network", "none", ...flags, "semantics", "/semantics"], { env });
          expect(result.stdout.split("\n")).toEqual([...faults.map((fault) => `FAIL ${fault}`), `${faults.length} failed`, ""]);
        };
        await semantics("--name", "one");
        // zfs-fuse mounts datasets itself.
        if (driver !== "zfs") expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(daemon.dataRoot);
        const at = (await cli("image", "mount", "semantics")).trim();
        expect(await cli("image", "mount")).toContain(at);
        expect(readFileSync(join(at, "t/f"), "utf8")).toBe("lower");
        expect(() => writeFileSync(join(at, "t/f"), "x")).toThrow("EROFS");
        await cli("image", "unmount", "semantics");
        expect(existsSync(at)).toBe(false);
        // The same once more, in a second container, and what the first has written as an image's layer.
        expect(await cli("diff", "one")).toContain("D /t/many");
        await cli("commit", "one", "second");
        await semantics("--rm");
        if (driver === "overlay2" && filesystem === "xfs") await compared(cli);
        await cli("rm", "one");
        await cli("rmi", "second", "semantics");
      } finally {
        await daemon.stop();
        if (filesystem !== undefined && filesystem !== "zfs") execFileSync("rm", ["-rf", daemon.base]);
        await made?.remove();
      }
    });
});

/** Every driver that can run is measured, and the others say why not. */
async function compared(cli: (...args: string[]) => Promise<string>): Promise<void> {
  const listed = (await cli("storage", "ls", "--format", "json"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { readonly Name: string; readonly State: boolean; readonly Reason: string });
  expect(listed.map(({ Name }) => Name)).toEqual(
    expect.arrayContaining(["overlay2 *", "btrfs", "fuse-overlayfs", "overlay", "vfs", "aufs", "devicemapper", "zfs"]),
  );
  for (const { Name, State, Reason } of listed) expect(State, Name).toBe(Reason === "");
  const costs = JSON.parse(await cli("storage", "compare", "--json", "--large", "2")) as { readonly driver: string; readonly tenContainersBytes: number }[];
  expect(costs.map(({ driver }) => driver)).toEqual(listed.filter(({ State }) => State).map(({ Name }) => Name.replace(" *", "")));
  for (const row of costs)
    for (const [name, value] of Object.entries(row))
      if (name !== "driver") expect(value, `${row.driver} ${name}`).toBeGreaterThan(name === "tenContainersBytes" ? -1 : 0);
}
