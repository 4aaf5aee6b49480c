import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { newId } from "#core/ids.ts";
import { encodePlan } from "./encode.ts";
import { NO_SLOT, type Plan, type Step } from "./plan.ts";
import { PlanPattern, renameIn } from "./plan-pattern.ts";

/** Steps that name an id in each way that a plan does: as text, as bytes, in a list, whole and cut. */
const planFor = (id: string): Plan => ({
  steps: [
    { op: "mkdir", where: "host", why: `the directory of ${id}`, dir: NO_SLOT, path: `/cg/${id}`, mode: 0o755, uid: 0, gid: 0, parents: 1 },
    { op: "write", where: "host", why: "its name", dir: NO_SLOT, path: `/c/${id.slice(0, 24)}.x`, flags: 1n, data: Buffer.from(`${id}${id.slice(0, 12)}\n`) },
    { op: "sethostname", where: "child", why: "its name", name: id.slice(0, 12), ignore: ["EPERM"] },
    { op: "exec", where: "child", why: "the program", paths: ["/bin/x"], argv: ["x", id], envp: [`HOSTNAME=${id.slice(0, 12)}`, "A=ü"] },
  ],
});
const first: readonly Step[] = [{ op: "setsid", where: "host", why: "before all others" }];

describe("a plan's pattern", () => {
  it("is, for another container, the plan that would have been made for it", () => {
    const [a, b] = [newId(), newId()];
    const known = new PlanPattern(planFor(a), a).for(b, first);
    const planned = { steps: [...first, ...planFor(b).steps] };
    expect(known.steps).toEqual(planned.steps);
    expect(encodePlan(known).done()).toEqual(encodePlan(planned).done());
  });

  it("can be used again and again", () => {
    const [a, b, c] = [newId(), newId(), newId()];
    const pattern = new PlanPattern(planFor(a), a);
    const one = encodePlan(pattern.for(b, []));
    expect(encodePlan(pattern.for(c, [])).done()).toEqual(encodePlan(planFor(c)).done());
    expect(one.done()).toEqual(encodePlan(planFor(b)).done());
  });

  it("renames an id of any length from a short one's on, and nothing else", () => {
    const hex = fc.array(fc.integer({ min: 0, max: 15 }), { minLength: 64, maxLength: 64 }).map((digits) => digits.map((d) => d.toString(16)).join(""));
    const parts = fc.array(fc.oneof(fc.string(), fc.integer({ min: 12, max: 64 })), { maxLength: 12 });
    fc.assert(
      fc.property(hex, hex, parts, (a, b, list) => {
        // What stands between two places must not go on with an id's next digit, as in a plan: an id ends with a separator.
        const textFor = (id: string) => list.map((part) => (typeof part === "string" ? part : `${id.slice(0, part)}/`)).join("");
        fc.pre(list.every((part) => typeof part !== "string" || !part.includes(a.slice(0, 12))));
        expect(renameIn(textFor(a), a, b)).toBe(textFor(b));
      }),
    );
  });
});
