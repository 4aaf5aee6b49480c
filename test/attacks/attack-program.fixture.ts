/** Compiles the attacker. @module */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { until } from "../integration/engine-setup.ts";
import type { RunOptions, Running, Sandbox } from "../integration/sandbox.ts";

/** Puts `attack` at this path; see attack.c for what it can try. */
export function compileAttack(out: string): void {
  const source = fileURLToPath(new URL("attack.c", import.meta.url));
  execFileSync(process.env["CC"] ?? "gcc", ["-O1", "-static", "-Wall", "-Wno-format-truncation", "-o", out, source], {
    stdio: ["ignore", "inherit", "inherit"],
  });
}

// A script of the build, in JavaScript: it has no types of its own.
const { nativeSources } = (await import(new URL("../../scripts/build-native.mjs", import.meta.url).href)) as { nativeSources(): string[] };

/** Puts a helper at this path whose defences are out: those that weaken.h names, or with `flags` others. */
export function compileWeakened(out: string, flags: readonly string[] = ["-include", fileURLToPath(new URL("weaken.h", import.meta.url))]): void {
  execFileSync(process.env["CC"] ?? "gcc", ["-std=gnu11", "-D_GNU_SOURCE", "-O0", "-static", ...flags, ...nativeSources(), "-o", out], {
    stdio: ["ignore", "inherit", "inherit"],
  });
}

/** Begins one of attack.c's watchers; it sees what happens from now on. */
export async function startWatcher(box: Sandbox, options: RunOptions): Promise<Running> {
  const watcher = await box.start(options);
  await until(() => watcher.output().stdout.includes("watching ok\n"), 30_000);
  return watcher;
}

/** Tells a watcher that nothing more will happen; answers with all that it saw. */
export async function endWatcher(watcher: Running): Promise<Record<string, string>> {
  await watcher.link.kill(15);
  const { watching: _begun, ...seen } = outcomes((await watcher.finish()).stdout);
  return seen;
}

/** "mknod ok\nopen EPERM\n" → {mknod: "ok", open: "EPERM"}. */
export function outcomes(stdout: string): Record<string, string> {
  return Object.fromEntries(
    stdout
      .trim()
      .split("\n")
      .map((line) => line.trim().split(" "))
      .map(([name = "", result = ""]) => [name, result]),
  );
}
