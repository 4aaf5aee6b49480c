import { describe, expect, it } from "vitest";
import { IgnoreRules } from "./ignore-file.ts";
import { lint, ruleUrl } from "./lint.ts";
import { parseDockerfile } from "./stages.ts";

const predefined = { TARGETPLATFORM: "linux/amd64", TARGETARCH: "amd64" };
const check = (text: string, ignore = "") => lint(parseDockerfile(text), { ignore: IgnoreRules.parse(ignore), predefined });
const found = (text: string, ignore?: string) => check(text, ignore).warnings.map(({ rule, line, detail }) => `${line} ${rule}: ${detail}`);

describe("lint", () => {
  it("says nothing about a Dockerfile as it should be", () => {
    const text = [
      "ARG VERSION=1",
      "FROM --platform=$BUILDPLATFORM busybox:${VERSION} AS build",
      "WORKDIR /src",
      "WORKDIR sub",
      'ENV A=1 PUBLIC_KEY="x"',
      "COPY . .",
      "EXPOSE 80/tcp",
      "FROM build AS linux-amd64",
      'CMD ["a"]',
    ].join("\n");
    expect(lint(parseDockerfile(text), { ignore: IgnoreRules.parse("out"), predefined: { ...predefined, BUILDPLATFORM: "linux/amd64" } }).warnings).toEqual([]);
  });

  it.each([
    ["FROM busybox as One", ["1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match", "1 StageNameCasing: Stage name 'One' should be lowercase"]],
    ["FROM a\nrun x\nRUN y", ["2 ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase)"]],
    ["FROM a\nRUN x \\\n\n  y", ["3 NoEmptyContinuation: Empty continuation line"]],
    ["FROM a AS b\nFROM a AS b", ['2 DuplicateStageName: Duplicate stage name "b", stage names should be unique']],
    ["FROM a AS scratch", ['1 ReservedStageName: Stage name should not use the same name as reserved stage "scratch"']],
    ["FROM a\nCMD x", ["2 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals"]],
    ['FROM a\nSHELL ["x"]\nCMD x', []],
    ["FROM a\nMAINTAINER x", ["2 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label"]],
    ["FROM a${X}", ["1 UndefinedArgInFrom: FROM argument 'X' is not declared"]],
    ["ARG X\nFROM a:$X", ["2 InvalidDefaultArgInFrom: Default value for ARG a:$X results in empty or invalid base image name"]],
    ["FROM a\nWORKDIR b", ['2 WorkdirRelativePath: Relative workdir "b" can have unexpected results if the base image changes']],
    [
      'FROM a\nCMD ["x"]\nCMD ["y"]',
      ["2 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used"],
    ],
    ["FROM a\nENV B c", ['2 LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format']],
    [
      "FROM --platform=$TARGETPLATFORM a",
      ["1 RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"],
    ],
    ["FROM --platform=linux/arm64 a", ['1 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/arm64"']],
    [
      "FROM a\nARG API_TOKEN\nENV DB_PASSWORD=x",
      [
        '2 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "API_TOKEN")',
        '3 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "DB_PASSWORD")',
      ],
    ],
    ["FROM a\nEXPOSE 80/TCP", ["2 ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase"]],
    [
      "FROM a\nEXPOSE 127.0.0.1:80:80",
      ["2 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'"],
    ],
  ])("%j", (text, expected) => expect(found(text)).toEqual(expected));

  it("a copied file that the ignore file leaves out", () => {
    expect(found("FROM a\nCOPY out/x kept /\nCOPY --from=a out /o", "out")).toEqual([
      '2 CopyIgnoredFile: Attempting to Copy file "out/x" that is excluded by .dockerignore',
    ]);
  });

  it("rules that the file skips are skipped, and it may ask for an error", () => {
    const text = "FROM a\nCMD x\nMAINTAINER y";
    expect(found(`# check=skip=JSONArgsRecommended\n${text}`)).toHaveLength(1);
    expect(check(`# check=skip=all;error=true\n${text}`)).toEqual({ warnings: [], error: undefined });
  });

  it("knows where docker explains a rule", () => {
    expect(ruleUrl("JSONArgsRecommended")).toBe("https://docs.docker.com/go/dockerfile/rule/json-args-recommended/");
    expect(ruleUrl("FromPlatformFlagConstDisallowed")).toBe("https://docs.docker.com/go/dockerfile/rule/from-platform-flag-const-disallowed/");
  });
});
