/** What tests of builds have in common: a daemon with busybox, directories to build from, and what is said of a build's steps. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import { type TestDaemon, wherryPath } from "./daemon.ts";
import { busyboxArchive } from "./images.ts";
import { ok } from "./run.ts";

export type Files = Readonly<Record<string, string | Uint8Array>>;

/** Writes files into a directory, which is made where it is missing, as theirs are. Returns it. */
export function putFiles(folder: string, files: Files): string {
  mkdirSync(folder, { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
  return folder;
}

/** Makes contexts below `work`, each a directory of its own. */
export function contextsIn(work: string): (files: Files) => string {
  let count = 0;
  return (files) => putFiles(join(work, `context-${++count}`), files);
}

/** Starts engines and loads busybox into each. */
export async function startWithBusybox(work: string, engines: readonly TestDaemon[]): Promise<void> {
  const { path } = busyboxArchive(work);
  for (const engine of engines) {
    await engine.start();
    await ok([wherryPath, "load", "-i", path], { env: { WHERRY_HOST: engine.host } });
  }
}

/** For a `describe`: engines with busybox from before its tests until after them, and a directory that goes with them; then nothing is left. */
export function enginesToBuildOn<const Engines extends readonly TestDaemon[]>(
  prefix: string,
  engines: Engines,
): { readonly work: string; readonly engines: Engines } {
  const work = mkdtempSync(join(tmpdir(), prefix));
  beforeAll(() => startWithBusybox(work, engines));
  afterAll(async () => {
    const left = [];
    for (const engine of engines) left.push(...(await engine.stop()));
    rmSync(work, { recursive: true, force: true });
    expect(left).toEqual([]);
  });
  return { work, engines };
}
