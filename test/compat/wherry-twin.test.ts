/**
 * The stock docker client and ours are given the same command lines, against one daemon: what both say, where, and with which exit code, must be the same, but for
 * what is known (twin-differences.ts, with its reason, and docs/compat.md).
 */
import { readFile } from "node:fs/promises";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { patient } from "../patience.ts";
import { TestDaemon, whyNot } from "./daemon.ts";
import { busyboxArchive } from "./images.ts";
import { ok, run } from "./run.ts";
import { comparable, runLine, twins, writeFiles } from "./twin.ts";
import { type Difference, differences, same } from "./twin-differences.ts";
import { rounds } from "./twin-lines.ts";

/** Others say many things in other words. */
async function noClient(): Promise<string | undefined> {
  const version = await run(["docker", "--version"]).catch(() => undefined);
  if (version === undefined) return "no docker client";
  return /^Docker version 28\./.test(version.stdout) ? undefined : `the docker client is not version 28: ${version.stdout.trim()}`;
}

const reason = whyNot() ?? (await noClient());
if (reason) console.warn(`wherry-twin: skipped: ${reason}`);

describe.skipIf(reason !== undefined)(`docker and wherry${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const work = mkdtempSync(join(tmpdir(), "wt-twin-"));
  // What the engine answers is held against its description elsewhere; here our client shall be in the engine, as it is with people.
  const daemon = new TestDaemon({ checked: false });
  const pair = twins(daemon.host, work);
  const used = new Set<Difference>();

  beforeAll(async () => {
    const archive = busyboxArchive(work);
    await writeFiles(work);
    await daemon.start();
    await ok(["docker", "load", "-q", "-i", archive.path], { env: { DOCKER_HOST: daemon.host } });
  });
  afterAll(async () => {
    const left = await daemon.stop();
    rmSync(work, { recursive: true, force: true });
    expect(left).toEqual([]);
  });

  for (const [i, groups] of rounds.entries())
    describe(`round ${i + 1}`, () => {
      test.concurrent.each(groups)("$name", { timeout: patient(300_000) }, async ({ lines }) => {
        const wrong: { line: string; docker: string; wherry: string }[] = [];
        for (const line of lines) {
          const [docker, wherry] = await Promise.all(pair.map(async (twin) => comparable(await runLine(twin, line, work), work)));
          if (!same(line, docker!, wherry!, used)) wrong.push({ line, docker: docker!, wherry: wherry! });
        }
        expect(wrong.map(({ line, wherry }) => `${line}\n${wherry}`)).toEqual(wrong.map(({ line, docker }) => `${line}\n${docker}`));
      });
    });

  test("every known difference is one, and is told to people", async () => {
    expect(differences.filter((difference) => !used.has(difference) && !difference.raced).map(({ why }) => why)).toEqual([]);
    const told = await readFile(new URL("../../docs/compat.md", import.meta.url), "utf8");
    expect(differences.filter(({ why }) => !told.includes(why)).map(({ why }) => why)).toEqual([]);
  });
});
