import { expect, it } from "vitest";
import { suggest } from "./suggest.ts";

it.each([
  ["imgaes", ["images", "image", "run"], ["images"]],
  ["imag", ["images", "image", "import"], ["image", "images"]],
  ["con", ["container", "cp"], ["container"]],
  ["memry", ["memory", "memory-swap", "cpus"], ["memory"]],
  ["Chwon", ["chown", "chmod"], ["chown"]],
  ["xyzzy", ["run"], []],
  ["a", [], []],
])("%s of %j: %j", (word, known, meant) => {
  expect(suggest(word, known)).toEqual(meant);
});

it("is quick with a word that is very long, for it comes from outside", () => {
  expect(suggest("x".repeat(2000), ["run"])).toEqual([]);
});
