import { expect, test } from "vitest";
import { EngineError } from "#core/errors.ts";
import { PlanError } from "./helper.ts";
import type { Plan } from "./plan.ts";
import { removeTogether } from "./remove-together.ts";

/** A helper that answers with these outcomes, one a call, and remembers the plans. */
function helperThat(...outcomes: (Error | undefined)[]) {
  const plans: Plan[] = [];
  const call = async (plan: Plan) => {
    plans.push(plan);
    const outcome = outcomes.shift();
    if (outcome !== undefined) throw outcome;
    return new Map();
  };
  return { plans, helper: { call } };
}
const failed = (errno: string) => new PlanError({ steps: [] }, 0, 1, errno);

test("files go before directories, in the order given, and missing ones are no error", async () => {
  const { plans, helper } = helperThat(undefined);
  expect(await removeTogether(helper, ["/a/f"], ["/a/b", "/a"])).toBe(true);
  expect(plans[0]?.steps.map((s) => [s.op, "path" in s && s.path, s.ignore])).toEqual([
    ["unlink", "/a/f", ["ENOENT"]],
    ["rmdir", "/a/b", ["ENOENT"]],
    ["rmdir", "/a", ["ENOENT"]],
  ]);
});

test("what is in use or not empty is told, other failures are thrown", async () => {
  expect(await removeTogether(helperThat(failed("EBUSY")).helper, [], ["/a"])).toBe(false);
  expect(await removeTogether(helperThat(failed("ENOTEMPTY")).helper, [], ["/a"])).toBe(false);
  await expect(removeTogether(helperThat(failed("EROFS")).helper, [], ["/a"])).rejects.toMatchObject({ errno: "EROFS" });
});

test("a helper that is killed meanwhile is asked again, once", async () => {
  const gone = () => new EngineError("unavailable", "the helper process has ended before it answered");
  const once = helperThat(gone(), undefined);
  expect(await removeTogether(once.helper, [], ["/a"])).toBe(true);
  expect(once.plans).toHaveLength(2);
  await expect(removeTogether(helperThat(gone(), gone()).helper, [], ["/a"])).rejects.toMatchObject({ code: "unavailable" });
});
