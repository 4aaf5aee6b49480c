/**
 * A zfs pool in a file, for one test: by the kernel where it has zfs, else by a zfs-fuse of the test's own.
 * @module
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export interface ZfsPool {
  readonly name: string;
  readonly directory: string;
  remove(): Promise<void>;
}

/** Why there can be none; undefined = there can. zfs-fuse is one for the whole machine. */
export function whyNoZfs(): string | undefined {
  if (!installed("zpool")) return "neither zfsutils-linux nor zfs-fuse is installed";
  // The module is loaded by the first command that asks for it.
  if (!inKernel() && !installed("zfs-fuse")) spawnSync("modprobe", ["zfs"], { stdio: "ignore" });
  if (inKernel()) return undefined;
  if (!installed("zfs-fuse")) return "this kernel has no zfs, and zfs-fuse is not installed";
  return existsSync("/dev/fuse") ? undefined : "there is no /dev/fuse";
}

export async function zfsPool(base: string): Promise<ZfsPool> {
  const place = mkdtempSync(join(base, "zpool-"));
  const image = join(place, "image");
  const directory = join(place, "mnt");
  const name = `wherrytest${randomBytes(4).toString("hex")}`;
  // As on a host with systemd: else a mount namespace that anybody makes meanwhile keeps zfs-fuse's mounts for itself, and their datasets busy.
  execFileSync("mount", ["--bind", place, place]);
  execFileSync("mount", ["--make-shared", place]);
  writeFileSync(image, "");
  truncateSync(image, 2 * 1024 ** 3);
  await locked(async () => {
    if (!inKernel() && !answers()) await startServer();
    execFileSync("zpool", ["create", "-m", directory, name, image]);
  });
  return {
    name,
    directory,
    remove: async () => {
      for (let tried = 0; spawnSync("zpool", ["destroy", "-f", name], { stdio: "ignore" }).status !== 0; tried++) {
        if (tried > 50) throw new Error(`the pool ${name} stays busy`);
        await sleep(200);
      }
      await locked(stopServer);
      execFileSync("umount", ["-l", place]);
      rmSync(place, { recursive: true, force: true });
    },
  };
}

/** zfs-fuse is one for the machine: test files that run at the same time share it, and the last one ends it. */
const server = { lock: join(tmpdir(), "wherry-test-zfs.lock"), pid: join(tmpdir(), "wherry-test-zfs.pid") };
/** Longer than anybody holds the lock; one that is older is of a test that was killed. */
const lockMs = 60_000;

async function locked(work: () => Promise<void>): Promise<void> {
  for (;;) {
    try {
      mkdirSync(server.lock);
      break;
    } catch {
      const age = Date.now() - (statSync(server.lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
      if (age > lockMs) rmSync(server.lock, { recursive: true, force: true });
      await sleep(50);
    }
  }
  try {
    await work();
  } finally {
    rmSync(server.lock, { recursive: true, force: true });
  }
}

/** With extended attributes, which it leaves out else. */
async function startServer(): Promise<void> {
  const started = spawn("zfs-fuse", ["--no-daemon", "--no-kstat-mount", "--enable-xattr"], { stdio: "ignore", detached: true });
  started.unref();
  writeFileSync(server.pid, String(started.pid));
  for (let waited = 0; !answers(); waited++) {
    if (waited > 100) throw new Error("zfs-fuse does not answer");
    await sleep(100);
  }
}

/** Not when a test has a pool, or when it is none of ours. */
async function stopServer(): Promise<void> {
  if (inKernel() || !existsSync(server.pid)) return;
  // It remembers pools of tests that were killed: their files are gone.
  if (execFileSync("zpool", ["list", "-H", "-o", "health"], { encoding: "utf8" }).includes("ONLINE")) return;
  process.kill(Number(readFileSync(server.pid, "utf8")), "SIGTERM");
  for (let waited = 0; answers() && waited < 100; waited++) await sleep(100);
  rmSync(server.pid, { force: true });
}

function answers(): boolean {
  return spawnSync("zpool", ["list", "-H"], { stdio: "ignore", timeout: 5000 }).status === 0;
}

function inKernel(): boolean {
  return /\tzfs$/m.test(readFileSync("/proc/filesystems", "utf8"));
}

function installed(program: string): boolean {
  return ["/sbin", "/usr/sbin", "/bin", "/usr/bin"].some((directory) => existsSync(join(directory, program)));
}
