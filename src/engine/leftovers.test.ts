import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { errnoOf } from "#core/errors.ts";
import { type Helper, PlanError } from "#linux/helper.ts";
import { Leftovers } from "./leftovers.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "wherry-leftovers-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** Removes as the helper does: one after the other, up to the first that cannot be. */
function removing(): { helper: Pick<Helper, "call">; calls: number[] } {
  const calls: number[] = [];
  const call: Helper["call"] = async (plan) => {
    const { steps } = plan;
    calls.push(steps.length);
    for (const [at, step] of steps.entries()) {
      if (step.op !== "unlink" && step.op !== "rmdir") throw new Error(`${step.op} is not to be performed here`);
      try {
        (step.op === "unlink" ? unlinkSync : rmdirSync)(step.path);
      } catch (error) {
        const errno = errnoOf(error) ?? "";
        if (!step.ignore?.includes(errno)) throw new PlanError(plan, at, 0, errno);
      }
    }
    return new Map();
  };
  return { helper: { call }, calls };
}

function make(name: string, ...files: string[]): string {
  const directory = join(root, name);
  mkdirSync(directory);
  for (const file of files) writeFileSync(join(directory, file), "");
  return directory;
}

test("what gathers goes by one call: files, and directories with what is in them", async () => {
  const { helper, calls } = removing();
  const leftovers = new Leftovers(helper, (message) => expect.unreachable(message));
  const [a, b] = [make("a", "log", "hosts"), make("b")];
  writeFileSync(join(root, "exit"), "");
  leftovers.add([join(root, "exit"), join(root, "never-was")], a);
  leftovers.add([], b);
  await leftovers.flush();
  expect([a, b, join(root, "exit")].filter((path) => existsSync(path))).toEqual([]);
  expect(calls).toEqual([6]);
});

test("a directory in one, and one that is gone already", async () => {
  const { helper } = removing();
  const leftovers = new Leftovers(helper, (message) => expect.unreachable(message));
  const a = make("a", "log");
  mkdirSync(join(a, "z/y"), { recursive: true });
  writeFileSync(join(a, "z/y/x"), "");
  const b = make("b", "log");
  leftovers.add([], join(root, "gone"));
  leftovers.add([], a);
  leftovers.add([], b);
  await leftovers.flush();
  expect([a, b].filter((path) => existsSync(path))).toEqual([]);
});

test("a failure is told, and the next are deleted", async () => {
  const { helper } = removing();
  const told: string[] = [];
  let broken = true;
  const call: Helper["call"] = async (plan) => {
    if (broken) throw new PlanError(plan, 0, 5, "EIO");
    return helper.call(plan);
  };
  const leftovers = new Leftovers({ call }, (message) => told.push(message));
  const [a, b] = [make("a"), make("b")];
  leftovers.add([], a);
  await leftovers.flush();
  expect(told).toEqual([expect.stringContaining("deleting what removed containers have left: ")]);
  broken = false;
  leftovers.add([], b);
  await leftovers.flush();
  expect([existsSync(a), existsSync(b), told.length]).toEqual([true, false, 1]);
});

test("closed, it leaves the rest to the next start", async () => {
  const { helper, calls } = removing();
  const leftovers = new Leftovers(helper, (message) => expect.unreachable(message));
  const [a, b] = [make("a"), make("b")];
  leftovers.add([], a);
  await leftovers.close();
  leftovers.add([], b);
  await leftovers.flush();
  expect([existsSync(a), existsSync(b), calls]).toEqual([false, true, [1]]);
});
