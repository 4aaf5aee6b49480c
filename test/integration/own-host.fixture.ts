/**
 * Runs a test file again in a network (and mount) namespace of its own, "the host" of its tests: nothing that it does to interfaces or rules is seen
 * outside, and all of it goes with its last process.
 * @module
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { nativeHelper } from "../suites/native-helper.ts";

const MARK = "WHERRY_TEST_OWN_HOST";

/** /sys shows the interfaces of the namespace that it was mounted in; the cgroups are kept. Names of further namespaces (ip netns) are its own, too. */
const ENTER = `set -e
mount --make-rslave /
mkdir -p /run/netns
mount -t tmpfs none /run/netns
kept=$(mktemp -d)
mount --rbind /sys/fs/cgroup "$kept"
mount -t sysfs sysfs /sys
mount --rbind "$kept" /sys/fs/cgroup
umount -l "$kept"
rmdir "$kept"
ip link set lo up
exec "$@"`;

export const sh = (command: string): string => execFileSync("sh", ["-c", command], { encoding: "utf8" });

/** What this host's programs find in /etc/resolv.conf, until the function that it returns is called. */
export function hostResolvConf(text: string): () => void {
  const directory = mkdtempSync(join(tmpdir(), "wherry-resolv-"));
  const file = join(directory, "resolv.conf");
  writeFileSync(file, text);
  sh(`mount --bind ${file} /etc/resolv.conf`);
  return () => {
    sh("umount /etc/resolv.conf");
    rmSync(directory, { recursive: true });
  };
}

/** `inner` declares the tests; `needs`: programs without which they are skipped; `limitMs`: for all of them together. */
export function inOwnHost(
  filename: string,
  about: string | { readonly title: string; readonly limitMs: number },
  needs: readonly string[],
  inner: () => void,
): void {
  const { title, limitMs } = typeof about === "string" ? { title: about, limitMs: 120_000 } : about;
  const missing = ["ip", "unshare", ...needs].filter((tool) => spawnSync("sh", ["-c", `command -v ${tool}`]).status !== 0);
  const reason = process.getuid?.() !== 0 ? "needs root" : missing.length > 0 ? `needs ${missing.join(" and ")}` : undefined;
  if (reason !== undefined) test.skip(`${title}: ${reason}`, () => undefined);
  else if (process.env[MARK] !== undefined) inner();
  else outer(filename, title, limitMs);
}

function outer(filename: string, title: string, timeout: number): void {
  test(`${title}, in a network namespace of its own`, { timeout }, () => {
    const vitest = join(import.meta.dirname, "../../node_modules/vitest/vitest.mjs");
    const run = [process.execPath, vitest, "run", "--project", "integration", filename];
    const { status, stdout, stderr } = spawnSync("unshare", ["--net", "--mount", "sh", "-c", ENTER, "sh", ...run], {
      encoding: "utf8",
      env: { ...process.env, [MARK]: "1", WHERRY_HELPER: nativeHelper() },
    });
    console.log(stdout.slice(-20_000));
    expect(status, stderr.slice(-20_000)).toBe(0);
    expect(stdout).toMatch(/Tests .*[1-9][0-9]* passed/);
  });
}
