import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { parseTree } from "./parse-tree.ts";
import { printNode } from "./print-tree.ts";
import { expandWord, expandWords } from "./words.ts";

/** BuildKit's own cases, where they lie beside this checkout. */
const folder = fileURLToPath(new URL("../../../../shared/spec/dockerfile/", import.meta.url));
const nested = fileURLToPath(new URL("../../../../../shared/spec/dockerfile/", import.meta.url));
const cases = [folder, nested].find((path) => existsSync(path));

describe.skipIf(cases === undefined)("the cases of Docker's parser (skipped when ../shared is not there)", () => {
  const at = cases ?? "";
  const list = (name: string) => (cases === undefined ? [] : readdirSync(join(at, name)));

  it.each(list("testfiles"))("tree %s", (name) => {
    const tree = parseTree(readFileSync(join(at, "testfiles", name, "Dockerfile"), "utf8"));
    expect(tree.nodes.map(printNode).join("\n")).toBe(readFileSync(join(at, "testfiles", name, "result"), "utf8").trim());
  });

  it.each(list("testfiles-negative"))("refused %s", (name) => {
    expect(() => parseTree(readFileSync(join(at, "testfiles-negative", name, "Dockerfile"), "utf8"))).toThrow(/parse error on line/);
  });

  const environment: Record<string, string> = { PWD: "/home", SHELL: "bash", KOREAN: "한국어", NULL: "" };
  const lookup = (name: string) => environment[name];
  const rows = (name: string) =>
    cases === undefined
      ? []
      : readFileSync(join(at, name), "utf8")
          .split("\n")
          .filter((line) => line !== "" && !line.startsWith("#"));

  it.each(
    rows("envVarTest")
      .filter((line) => /^[AU]\|/.test(line))
      .map((line) => line.split("|").map((part) => part.trim())),
  )("%s|%s is %s", (_platform, input, expected) => {
    const result = () => expandWord(input!, lookup, { escape: "\\" });
    if (expected === "error") expect(result).toThrow();
    else expect(result()).toBe(expected);
  });

  const variables = new Map<string, string>();
  const words = rows("wordsTest").flatMap((line) => {
    const set = /^ENV\s+([^=]+)=(.*)$/.exec(line);
    if (set) variables.set(set[1]!, set[2]!);
    const snapshot = new Map(variables);
    const [input, expected] = line.split("|");
    return set || expected === undefined ? [] : [{ input: input!.trim(), expected: expected.trimStart(), snapshot }];
  });
  it.each(words)("words $input", ({ input, expected, snapshot }) => {
    const result = () => expandWords(input, (name) => snapshot.get(name), { escape: "\\" });
    if (expected.trim() === "error") expect(result).toThrow();
    else expect(result()).toEqual(expected.split(","));
  });
});
