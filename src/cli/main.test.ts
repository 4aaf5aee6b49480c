import { describe, expect, it } from "vitest";
import { ApiError } from "#api/client/mod.ts";
import { type TestAnswers, testClient } from "./client.fixture.ts";
import { tree } from "./commands.ts";
import { testIo } from "./io.fixture.ts";
import { main } from "./main.ts";

async function call(argv: readonly string[], answers: TestAnswers = {}) {
  const io = testIo(argv);
  const code = await main(io, () => testClient(answers));
  return { code, out: io.out(), err: io.err() };
}

describe("help", () => {
  it("of the program, in all its spellings", async () => {
    for (const argv of [["--help"], ["-h"], ["help"]]) {
      const { code, out, err } = await call(argv);
      expect([code, err]).toEqual([0, ""]);
      expect(out).toMatch(/^Usage: {2}wherry \[OPTIONS\] COMMAND\n/);
    }
  });

  it("on stderr where it was not asked for", async () => {
    for (const argv of [[], ["image"]]) {
      const { code, out, err } = await call(argv);
      expect([code, out]).toEqual([0, ""]);
      expect(err).toMatch(/^Usage: {2}wherry .*COMMAND\n/);
    }
  });

  it.each(Object.entries(tree).flatMap(([name, entry]) => [[name], ...Object.keys(entry.sub ?? {}).map((sub) => [name, sub])]))(
    "of %s %s",
    async (...words) => {
      for (const argv of [
        [...words, "--help"],
        ["help", ...words],
      ]) {
        const { code, out, err } = await call(argv.filter((word) => word !== undefined));
        expect([code, err]).toEqual([0, ""]);
        expect(out).toMatch(new RegExp(`^Usage: {2}wherry ${words.filter((word) => word !== undefined).join(" ")}`));
        // Lines are kept short enough for a terminal, where words allow.
        for (const line of out.split("\n").filter((l) => /^ {2}(-| {3})/.test(l))) expect(line.length).toBeLessThanOrEqual(90);
      }
    },
  );
});

describe("what cannot be", () => {
  it.each([
    [["nope"], 1, "wherry: unknown command: wherry nope\n\nRun 'wherry --help' for more information\n"],
    [["imgaes"], 1, "wherry: unknown command: wherry imgaes\n\nDid you mean 'wherry images'?\n\nRun 'wherry --help' for more information\n"],
    [
      ["image", "lsx"],
      1,
      "wherry: unknown command: wherry image lsx\n\nDid you mean 'wherry image ls'?\n\nUsage:  wherry image COMMAND\n\nRun 'wherry image --help' for more information\n",
    ],
    [["--nope"], 125, "unknown flag: --nope\n\nUsage:  wherry [OPTIONS] COMMAND [ARG...]\n\nRun 'wherry --help' for more information\n"],
    [["image", "--nope"], 125, "unknown flag: --nope\n\nUsage:  wherry image COMMAND\n\nRun 'wherry image --help' for more information\n"],
    [["checkpoint", "ls", "x"], 1, "wherry: 'checkpoint' is not supported by this version\n"],
    [["cp", "a", "b"], 1, "must specify at least one container source\n"],
  ])("%j exits %d", async (argv, code, err) => expect(await call(argv)).toEqual({ code, out: "", err }));
});

it("global flags stand before the command", async () => {
  expect(await call(["-H", "unix:///x", "--debug", "-l", "info", "-c", "default", "--config", "/x", "ps", "-q"], { "GET /containers/json": [] })).toEqual({
    code: 0,
    out: "",
    err: "",
  });
});

it("--version", async () => expect((await call(["--version"])).out).toMatch(/^wherry version \S+\n$/));

it("an error of the daemon, with its hint", async () => {
  const refuse = () => {
    throw new ApiError(409, "it is so", "do otherwise");
  };
  expect(await call(["ps"], { "GET /containers/json": refuse })).toEqual({
    code: 1,
    out: "",
    err: "Error response from daemon: it is so\nHint: do otherwise\n",
  });
});

it("a fault of ours comes with its stack", async () => {
  const { code, err } = await call(["ps"], { "GET /containers/json": [{ Names: undefined }] });
  expect(code).toBe(1);
  expect(err).toMatch(/TypeError[\s\S]* at /);
});
