import { readFileSync } from "node:fs";
import { expect, it } from "vitest";

// A script of the build, in JavaScript without types.
const gen = (await import(new URL("../../scripts/gen-ops.mjs", import.meta.url).href)) as {
  parseOps(text: string): { name: string; code: number; fields: { name: string; type: string }[]; man: string; doc: string }[];
  toTypeScript(ops: unknown): string;
  toMarkdown(ops: unknown): string;
  toC(ops: unknown): string;
};
const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
const ops = gen.parseOps(read("native/ops.def"));

it.each([
  ["src/linux/ops.gen.ts", gen.toTypeScript],
  ["docs/ops.md", gen.toMarkdown],
  ["native/ops.gen.h", gen.toC],
])("%s is what the table says (else: node scripts/gen-ops.mjs)", (path, generate) => {
  expect(read(path)).toBe(generate(ops));
});

it("has unique names and codes, a man page and a sentence for each", () => {
  expect(new Set(ops.map((op) => op.name)).size).toBe(ops.length);
  expect(new Set(ops.map((op) => op.code)).size).toBe(ops.length);
  for (const op of ops) {
    expect(op.man).toMatch(/^[a-z_0-9]+\(\d\)$/);
    expect(op.doc.length).toBeGreaterThan(10);
  }
});

it("refuses a malformed line by its number", () => {
  expect(() => gen.parseOps("# x\nop broken")).toThrow("ops.def:2");
});
