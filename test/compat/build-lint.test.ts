import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { contextsIn, enginesToBuildOn } from "./building.ts";
import { cliPlugin, installPlugins } from "./cli-plugin.ts";
import { hasProgram, httpCall, TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { type Result, run } from "./run.ts";

const buildx = cliPlugin("docker-buildx");
const reason = whyNot();
if (reason) console.warn(`build-lint: skipped: ${reason}`);

describe.skipIf(reason !== undefined)(`a Dockerfile's # check=${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const {
    work,
    engines: [daemon],
  } = enginesToBuildOn("wt-lint-", [new TestDaemon()]);
  const config = join(work, "docker-config");
  const env = { DOCKER_HOST: daemon.host, DOCKER_CONFIG: config, WHERRY_HOST: daemon.host, BUILDX_NO_DEFAULT_ATTESTATIONS: "1" };

  beforeAll(() => installPlugins(config, buildx));

  interface Way {
    readonly command: readonly string[];
    /** Why it cannot be tried here. */
    readonly missing: string | undefined;
    /** It shows what is unwise when nothing fails. */
    readonly warns: boolean;
  }
  const ways: Readonly<Record<string, Way>> = {
    "wherry build": { command: [wherryPath, "build", "--progress=plain", "--network=none"], missing: undefined, warns: true },
    "docker's classic builder": {
      command: ["env", "DOCKER_BUILDKIT=0", "docker", "build", "--network=none"],
      missing: hasProgram("docker") ? undefined : "no docker client",
      warns: false,
    },
    buildx: {
      command: [buildx ?? "", "build", "--progress=plain", "--network=none"],
      missing: buildx === undefined ? "no docker-buildx" : undefined,
      warns: true,
    },
  };
  const contextOf = contextsIn(work);
  const context = (Dockerfile: string, ignore = ""): string => contextOf({ Dockerfile, ".dockerignore": ignore });
  const unwise = "FROM busybox\nWORKDIR here\nRUN echo ran\nCMD echo x\n";
  const violation = "lint violation found for rules: WorkdirRelativePath, JSONArgsRecommended";
  const containers = async () => (await httpCall(daemon.socket, "GET", "/containers/json?all=1")).json<object[]>();

  describe.each(Object.entries(ways))("%s", (_name, { command, missing, warns }) => {
    const build = (folder: string, ...args: string[]): Promise<Result> => run([...command, ...args, folder], { env });

    test.skipIf(missing !== undefined)("error=true: nothing is run, and the rules are named", async () => {
      const { code, stdout, stderr } = await build(context(`# check=error=true\n${unwise}`));
      expect(code).not.toBe(0);
      expect(stdout + stderr).toContain(violation);
      expect(stdout + stderr).not.toMatch(/ran$/m);
      expect(await containers()).toEqual([]);
    });

    test.skipIf(missing !== undefined)("skip= takes rules out, all of them as well; without error=true they are warnings", async () => {
      const one = await build(context(`# check=skip=workdirrelativepath;error=true\n${unwise}`));
      expect(one.stdout + one.stderr).toMatch(/rules: JSONArgsRecommended($| \(line 5)/m);
      for (const check of ["skip=WorkdirRelativePath,JSONArgsRecommended;error=true", "error=true;skip=all", "skip=all"]) {
        const { code, stdout, stderr } = await build(context(`# check=${check}\n${unwise}`));
        expect(code).toBe(0);
        expect(stdout + stderr).not.toContain("JSONArgsRecommended");
      }
      const { code, stdout, stderr } = await build(context(unwise));
      expect(code).toBe(0);
      expect((stdout + stderr).includes("JSONArgsRecommended: JSON arguments recommended for CMD")).toBe(warns);
    });

    test.skipIf(missing !== undefined)("the argument BUILDKIT_DOCKERFILE_CHECK beats the file, and what the ignore file hides counts", async () => {
      expect((await build(context(unwise), "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true")).code).not.toBe(0);
      const beaten = await build(context(`# check=error=true\n${unwise}`), "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all");
      expect(beaten.code).toBe(0);
      expect(beaten.stdout + beaten.stderr).not.toContain("not consumed");
      const hidden = await build(context("# check=error=true\nFROM busybox\nCOPY secret.txt /\n", "secret.txt\n"));
      expect(hidden.stdout + hidden.stderr).toContain("lint violation found for rules: CopyIgnoredFile");
    });
  });

  test("--check says the same, asks no engine, and is told by the same argument", async () => {
    const check = (folder: string, ...args: string[]) => run([wherryPath, "build", "--check", ...args, folder], { env });
    const both = await check(context(`# check=error=true\n${unwise}`));
    expect(both).toMatchObject({ code: 1, stdout: expect.stringContaining("2 warnings have been found") as string });
    expect(both.stderr).toContain(violation);
    expect(await check(context(unwise))).toMatchObject({ code: 1, stderr: "" });
    expect(await check(context(`# check=skip=all\n${unwise}`))).toMatchObject({ code: 0 });
    expect((await check(context(unwise), "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true")).stderr).toContain(violation);
  });
});
