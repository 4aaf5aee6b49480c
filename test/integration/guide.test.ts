/**
 * The guide's chapters, run: each ```sh block in turn, in one shell per chapter, against a daemon of the test's own. A ```text block says what the
 * block before it prints; an ellipsis stands for anything, alone on its line also for any number of lines.
 * @module
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { TestDaemon, whyNot, wherryPath } from "../compat/daemon.ts";
import { run } from "../compat/run.ts";

const guide = fileURLToPath(new URL("../../docs/guide/", import.meta.url));
const reason = whyNot();
if (reason !== undefined) console.warn(`skipped: the guide (${reason})`);

interface Block {
  readonly line: number;
  readonly script: string;
  readonly expected: string | undefined;
}

/** The fenced blocks of a chapter that are to be run. */
function blocksOf(text: string): Block[] {
  const blocks: Block[] = [];
  for (const match of text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)) {
    const [, language, body = ""] = match;
    const line = text.slice(0, match.index).split("\n").length;
    if (language === "sh") blocks.push({ line, script: body, expected: undefined });
    else if (language === "text") blocks.push({ ...blocks.pop()!, expected: body });
    else throw new Error(`line ${line}: a block of "${language}", which nothing checks`);
  }
  return blocks;
}

function pattern(expected: string): RegExp {
  const lines = expected
    .trimEnd()
    .split("\n")
    .map((line) => (line === "…" ? "(?:.*\\n)*?" : `${line.split("…").map(literally).join(".*")}\\n`));
  return new RegExp(`^${lines.join("")}$`);
}

function literally(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
}

describe.skipIf(reason !== undefined)("the guide", () => {
  let daemon: TestDaemon;
  let env: Record<string, string>;
  let work: string;
  beforeAll(async () => {
    daemon = new TestDaemon();
    await daemon.start();
    env = { WHERRY_HOST: daemon.host, PATH: `${dirname(wherryPath)}:${process.env["PATH"]}` };
    const made = await run([wherryPath, "image", "bootstrap", "busybox"], { env });
    expect(made.code, made.stderr).toBe(0);
  });
  afterAll(async () => {
    expect(await daemon.stop()).toEqual([]);
  });

  // A chapter that fails half-way leaves containers, which the next one must not stumble over.
  afterEach(async () => {
    for (const id of await containers()) await daemon.api("DELETE", `/containers/${id}?force=1`);
  });
  // And mounts.
  afterEach(() => {
    spawnSync("umount", [join(work, "stage/union"), join(work, "stage")]);
    rmSync(work, { recursive: true });
  });
  const containers = async () => (await daemon.api("GET", "/containers/json?all=1")).json<{ Id: string }[]>().map(({ Id }) => Id);

  for (const chapter of readdirSync(guide).filter((name) => name.endsWith(".md"))) {
    it(`chapter ${chapter} does what it says`, async () => {
      const blocks = blocksOf(readFileSync(join(guide, chapter), "utf8"));
      expect(blocks.length).toBeGreaterThan(5);
      const scripts = mkdtempSync(join(tmpdir(), "guide-"));
      work = mkdtempSync(join(tmpdir(), "guide-work-"));
      for (const [i, { script }] of blocks.entries()) writeFileSync(join(scripts, `${i}.sh`), script);
      // One shell, since blocks use variables of earlier ones; it ends at the first command that fails.
      const steps = blocks.map((_, i) => `. ${scripts}/${i}.sh > ${scripts}/${i}.out 2>&1; echo done ${i}`);
      const { stdout } = await run(["sh", "-c", `set -e; cd ${work}; ${steps.join("; ")}`], { env, timeoutMs: 100_000 });
      if (process.env["WHERRY_SHOW_GUIDE"] !== undefined)
        for (const [i, { script }] of blocks.entries()) console.log(`${script}-----\n${readFileSync(join(scripts, `${i}.out`), "utf8")}`);
      for (const [i, { line, script, expected }] of blocks.entries()) {
        const output = readFileSync(join(scripts, `${i}.out`), "utf8");
        const where = `${chapter}:${line}\n${script}\nprinted:\n${output}`;
        expect(stdout, where).toContain(`done ${i}\n`);
        if (expected !== undefined) expect(pattern(expected).test(output), `${where}\nexpected:\n${expected}`).toBe(true);
      }
      expect(readdirSync(work), "the chapter tidies up").toEqual([]);
      expect(await containers()).toEqual([]);
      rmSync(scripts, { recursive: true });
    });
  }
});
