import { describe, expect, test } from "vitest";
import type { Image } from "#image/mod.ts";
import { busybox } from "../../../test/compat/fake-engine.ts";
import { globExpression, hasLabel, imageFilter, referenceMatcher } from "./image-filters.ts";

const image = (created: string, repoTags: readonly string[], labels: Record<string, string> = {}): Image => ({
  ...busybox,
  repoTags,
  config: { ...busybox.config, created, config: { Labels: labels } },
});

const old = image("2020-01-01T00:00:00Z", ["a/old:v1"], { kind: "x" });
const young = image(new Date().toISOString(), ["localhost:5000/b:v2"], { kind: "y" });
const untagged = image("2022-01-01T00:00:00Z", []);
const all = [old, young, untagged];
const find = async (name: string): Promise<Image> => all.find((one) => one.repoTags.includes(name))!;
const list = async (filters: Record<string, string[]>): Promise<Image[]> => all.filter(await imageFilter(filters, find));

describe("image filters", () => {
  test.each<[string, Record<string, string[]>, Image[]]>([
    ["dangling", { dangling: ["true"] }, [untagged]],
    ["not dangling", { dangling: ["false"] }, [old, young]],
    ["a label", { label: ["kind=x"] }, [old]],
    ["a label's name", { label: ["kind"] }, [old, young]],
    ["not a label", { "label!": ["kind=x"] }, [young, untagged]],
    ["before", { before: ["localhost:5000/b:v2"] }, [old, untagged]],
    ["since", { since: ["a/old:v1"] }, [young, untagged]],
    ["until a duration", { until: ["24h"] }, [old, untagged]],
    ["until a date", { until: ["2021-01-01"] }, [old]],
    ["references", { reference: ["a/*", "localhost:5000/b"] }, [old, young]],
    ["several at once", { reference: ["*/*"], label: ["kind=y"] }, [young]],
  ])("%s", async (_name, filters, wanted) => {
    expect(await list(filters)).toEqual(wanted);
  });

  test("what cannot be read is refused", async () => {
    await expect(list({ until: ["yesterday"] })).rejects.toThrow("invalid filter 'until=yesterday'");
    expect(() => globExpression("a[b")).toThrow("unclosed [");
  });
});

test("patterns are a shell's: a star stays within its part, everything else is literal", () => {
  const matches = (pattern: string, name: string): boolean => referenceMatcher([pattern])(name);
  expect(matches("busybox", "busybox:latest")).toBe(true);
  expect(matches("busy*", "busybox:latest")).toBe(true);
  expect(matches("*", "a/b:latest")).toBe(false);
  expect(matches("b.sybox", "busybox:latest")).toBe(false);
  expect(matches("[ab]/c:v?", "a/c:v1")).toBe(true);
  expect(hasLabel({ a: "b=c" }, "a=b=c")).toBe(true);
  expect(hasLabel({}, "toString")).toBe(false);
});
