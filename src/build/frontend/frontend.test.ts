import { describe, expect, it } from "vitest";
import { isEngineError } from "#core/errors.ts";
import { compileGlob } from "./glob.ts";
import { IgnoreRules } from "./ignore-file.ts";
import { heredocText } from "./heredoc.ts";
import { parseTree } from "./parse-tree.ts";
import { printNode } from "./print-tree.ts";
import { globalArgValues, parseDockerfile, targetStage } from "./stages.ts";
import { expandWord, expandWords } from "./words.ts";

const one = (text: string) => parseDockerfile(`FROM a\n${text}\n`).stages[0]!.instructions[0]!;
const refused = (text: string) => {
  try {
    parseDockerfile(text, "Dockerfile");
  } catch (error) {
    if (isEngineError(error, "invalid")) return error;
  }
  throw new Error("it was not refused");
};

describe("lines", () => {
  it.each([
    ["RUN a \\\n  # not this\n\n  b", '(run "a   b")'],
    ["# escape=`\nRUN a `\n b \\", '(run "a  b \\\\")'],
    ["ENV C trailing\\\\\nENV D x", '(env "C" "trailing\\\\\\\\" "")'],
    ['copy --from=x --chown=\'a b\' ["x", "y"]', '(copy ["--from=x" "--chown=a b"] "x" "y")'],
    ['ONBUILD RUN ["x"]', '(onbuild (run "x"))'],
    ["\uFEFFFROM x", '(from "x")'],
    ["FROM x\r\nRUN a \\\r\n b\r\n", '(from "x")'],
    ["LABEL a=\"b c\" d='e'", '(label "a" "\\"b c\\"" "=" "d" "\'e\'" "=")'],
  ])("%j", (text, expected) => {
    expect(printNode(parseTree(text).nodes[0]!)).toBe(expected);
  });

  it("heredocs keep their lines, and end where they say", () => {
    const { nodes } = parseTree('RUN <<EOF cat >x\n# a\n  b \\\nEOF\nCOPY <<-"A" <<B /d/\n\tone $x\n\tA\ntwo\nB\nRUN echo it\'s <<fine\n');
    expect(nodes.map((node) => node.heredocs.map(({ name, expand, content }) => ({ name, expand, content })))).toEqual([
      [{ name: "EOF", expand: true, content: "# a\n  b \\\n" }],
      [
        { name: "A", expand: false, content: "\tone $x\n" },
        { name: "B", expand: true, content: "two\n" },
      ],
      [],
    ]);
    expect(heredocText(nodes[1]!.heredocs[0]!)).toBe("one $x\n");
    expect(() => parseTree("RUN <<EOF\nx\n")).toThrow("unterminated heredoc");
  });
});

describe("words", () => {
  const lookup = (name: string) => ({ A: "foo.tar.gz", B: "a/b/c", E: "" })[name];
  it.each([
    ["${A%.*}", "foo.tar"],
    ["${A%%.*}", "foo"],
    ["${A#*.}", "tar.gz"],
    ["${A##*.}", "gz"],
    ["${B/\\//-}", "a-b/c"],
    ["${B//\\//-}", "a-b-c"],
    ["${B//?}", "error"],
    ["${A/tar/}", "foo..gz"],
    ["${E:-x}${E-y}${N-z}", "xz"],
    ["${E:+x}${E+y}", "y"],
    ["\\$A '$A' \"$A\"", "$A $A foo.tar.gz"],
  ])("%s is %s", (word, expected) => {
    if (expected === "error") expect(() => expandWord(word, lookup, { escape: "\\" })).toThrow();
    else expect(expandWord(word, lookup, { escape: "\\" })).toBe(expected);
  });

  it("what a variable holds is split, what is quoted is not", () => {
    expect(expandWords('$X "$X" a\\ b', () => "1 2", { escape: "\\" })).toEqual(["1", "2", "1 2", "a b"]);
  });

  it("a pattern made to take for ever does not", () => {
    const long = "a".repeat(2000);
    expect(expandWord(`\${X#${"*a".repeat(100)}b}`, () => long, { escape: "\\" })).toBe(long);
    expect(() => expandWord(`\${X//${"*a".repeat(100)}b/x}`, () => long, { escape: "\\" })).toThrow("too long for a pattern");
  });
});

describe("instructions", () => {
  it("reads what they say", () => {
    expect(one("COPY --from=x --chown=1:2 --chmod=755 --link --parents --exclude=*.md --exclude=b a b /c/")).toMatchObject({
      kind: "copy",
      from: "x",
      chown: "1:2",
      chmod: "755",
      link: true,
      parents: true,
      exclude: ["*.md", "b"],
      sources: ["a", "b"],
      destination: "/c/",
    });
    expect(one("RUN --mount=type=cache,target=/c,sharing=locked,id=i --mount=type=secret,id=s,required,mode=0400 --network=none x")).toMatchObject({
      network: "none",
      command: { json: false, args: ["x"] },
      mounts: [
        { type: "cache", target: "/c", sharing: "locked", id: "i", readonly: false },
        { type: "secret", id: "s", required: true, mode: 0o400 },
      ],
    });
    expect(one("HEALTHCHECK --interval=1m30s --retries=3 CMD x y")).toMatchObject({ health: { Test: ["CMD-SHELL", "x y"], Interval: 90e9, Retries: 3 } });
    expect(one("ONBUILD COPY <<A /x\nhello\nA")).toMatchObject({ kind: "onbuild", trigger: "COPY <<A /x\nhello\nA" });
    expect(one('RUN --mount=type=bind,\\"target=/a,b\\" x')).toMatchObject({ mounts: [{ target: "/a,b", readonly: true }] });
  });

  it.each([
    ["FROM a\nRNU x", 2, "unknown instruction: RNU (did you mean RUN?)"],
    ["FROM a\n  COPY --chwon=1 a b", 2, "unknown flag: --chwon (did you mean --chown?)"],
    ["FROM a\n\nRUN --mount=type=cahce,target=/x y", 3, 'unsupported mount type "cahce" (did you mean cache?)'],
    ["FROM a\nRUN --mount=type=tmpfs,target=/x,source=y z", 2, "unexpected key 'source' for mount type 'tmpfs'"],
    ["FROM a\nRUN --security=insecure x", 2, "security insecure is not allowed"],
    ["FROM a b", 1, "FROM requires either one or three arguments"],
    ["FROM a AS 1x", 1, "invalid name for build stage"],
    ["RUN x", 1, "no build stage in current context"],
    ["ARG x", 1, "the file has no FROM"],
    ["FROM a\nCOPY x", 2, "COPY requires at least two arguments"],
    ["FROM a\nSHELL bash", 2, "SHELL requires the arguments to be in JSON form"],
    ["FROM a\nONBUILD ONBUILD RUN x", 2, "Chaining ONBUILD"],
    ["FROM a\nONBUILD FROM x", 2, "FROM isn't allowed as an ONBUILD trigger"],
    ["FROM a\nENV A", 2, "ENV must have two arguments"],
    ["FROM a\nENV A=b C", 2, "can't find = in"],
    ["FROM a\nCMD [1]", 2, "arrays must be comprised of strings only"],
    ["# escape=x\nFROM a", 1, "invalid escape token"],
    ["# escape=`\n# escape=`\nFROM a", 2, "only one escape parser directive"],
    ["FROM a\nUSER", 2, "USER requires exactly one argument"],
    ["FROM a\nCOPY --link --link a b", 2, "duplicate flag specified: --link"],
  ])("%j is refused", (text, line, message) => {
    const error = refused(text);
    expect(error.message).toContain(message);
    expect(error.details).toMatchObject({ file: "Dockerfile", line });
  });

  it("stages are found by name and number, and a wrong target is answered with the nearest", () => {
    const file = parseDockerfile("ARG V=1\nARG W=x$V\nFROM a:$W AS Build\nFROM build\nFROM b AS final");
    expect(targetStage(file, "").index).toBe(2);
    expect(targetStage(file, "BUILD").index).toBe(0);
    expect(targetStage(file, "1").index).toBe(1);
    expect(() => targetStage(file, "fnial")).toThrow("did you mean final?");
    expect(globalArgValues(file, { V: "2" }, {})("W")).toBe("x2");
  });
});

describe(".dockerignore", () => {
  it.each([
    [["*.md", "!README.md"], "a.md", true],
    [["*.md", "!README.md"], "README.md", false],
    [["node_modules"], "node_modules/a/b.js", true],
    [["node_modules"], "sub/node_modules/x", false],
    [["**/node_modules"], "sub/node_modules/x", true],
    [["**/node_modules"], "node_modules/x", true],
    [["/a/"], "a/b", true],
    [["a/**"], "a/b/c", true],
    [["a/**/z"], "a/z", true],
    [["a/**/z"], "a/b/c/z", true],
    [["a", "!a/keep"], "a/keep/x", false],
    [["# no", "", "  b  "], "b", true],
    [["*/t*"], "x/tmp/y", true],
    [["*/t*"], "x/y/tmp", false],
    [["[a-c]?x"], "bzx", true],
    [["./d/../e"], "e", true],
  ])("%j: %s %s", (lines, path, ignored) => {
    expect(IgnoreRules.of(lines).ignores(path)).toBe(ignored);
  });

  it("a pattern made to take for ever does not", () => {
    expect(compileGlob(`${"*a".repeat(60)}b`).matches(`${"a".repeat(4000)}c`)).toBe(false);
    expect(compileGlob(`${"**/".repeat(60)}b`).matches(`${"a/".repeat(2000)}c`)).toBe(false);
  });
});
