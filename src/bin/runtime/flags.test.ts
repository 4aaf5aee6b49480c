import { expect, it } from "vitest";
import { type FlagTable, flagValue, idOf, isSet, parseFlags } from "./flags.ts";

const table: FlagTable = { "bundle,b": "value", "detach,d": "bool", env: "value" };

it.each([
  [["--bundle", "/x", "id"], "/x"],
  [["-b", "/x", "id"], "/x"],
  [["-bundle=/x", "id"], "/x"],
  [["--bundle=/a", "--bundle=/x", "id"], "/x"],
])("%j: as Go's flags", (argv, bundle) => {
  const parsed = parseFlags(table, argv);
  expect(flagValue(parsed, "bundle")).toBe(bundle);
  expect(idOf(parsed)).toBe("id");
});

it("stops at the first argument: the rest is the program's", () => {
  const parsed = parseFlags(table, ["-d", "id", "ls", "-b", "--", "x"]);
  expect(parsed.rest).toEqual(["id", "ls", "-b", "--", "x"]);
  expect(isSet(parsed, "detach")).toBe(true);
  expect(flagValue(parsed, "bundle")).toBeUndefined();
});

it("takes repeated values, a value with =, false, and --", () => {
  const parsed = parseFlags(table, ["--env", "A=1", "--env=B=2", "--detach=false", "--", "-id"]);
  expect(parsed.values.get("env")).toEqual(["A=1", "B=2"]);
  expect(isSet(parsed, "detach")).toBe(false);
  expect(parsed.rest).toEqual(["-id"]);
});

it("refuses what it does not know, a missing value, and no id", () => {
  expect(() => parseFlags(table, ["--nonsense"])).toThrow("flag provided but not defined: -nonsense");
  expect(() => parseFlags(table, ["--bundle"])).toThrow("flag needs an argument: -bundle");
  expect(() => idOf(parseFlags(table, []))).toThrow("container id cannot be empty");
});
