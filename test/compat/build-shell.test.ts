/** `build --debug-shell` (root): on a terminal, without one, and when the terminal goes. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { contextsIn, enginesToBuildOn } from "./building.ts";
import { httpCall, TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { eventually, type Result, run, terminal } from "./run.ts";

const reason = whyNot();
if (reason) console.warn(`build-shell: skipped: ${reason}`);

describe.skipIf(reason !== undefined)(`build --debug-shell${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const {
    work,
    engines: [daemon],
  } = enginesToBuildOn("wt-bshell-", [new TestDaemon()]);
  const env = { WHERRY_HOST: daemon.host };
  const wherry = (...args: string[]): Promise<Result> => run([wherryPath, ...args], { env });
  const list = async (what: string) => (await httpCall(daemon.socket, "GET", what)).json<object[]>();
  let images = 0;

  beforeAll(async () => {
    images = (await list("/images/json?all=1")).length;
  });

  const contextOf = contextsIn(work);
  const context = (Dockerfile: string): string => contextOf({ Dockerfile });
  const failing =
    "FROM busybox\nRUN echo someone:x:77:77::/:/bin/sh >>/etc/passwd\nARG WORD\nENV SAID=so\nWORKDIR /here\nRUN chown someone .\nUSER someone\nRUN --mount=type=secret,id=s echo before >left-behind; exit 9\n";
  const secret = join(work, "secret");
  writeFileSync(secret, "nobody-sees-this");
  const command = (folder: string) => [
    wherryPath,
    "build",
    "--debug-shell",
    "--network",
    "none",
    "--build-arg",
    "WORD=of-the-argument",
    "--secret",
    `id=s,src=${secret}`,
    folder,
  ];
  /** busybox's shell asks the terminal where its cursor is. */
  const prompt = /[$#] (\u001b\[6n)?$/;
  /** Nothing of it is there any more. */
  const gone = async () => {
    await eventually(
      () => list("/containers/json?all=1"),
      (found) => found.length === 0,
    );
    await eventually(
      () => list("/images/json?all=1"),
      (found) => found.length === images,
    );
  };

  test("on a terminal: a shell at once, as the step's user in its directory with its variables; then all of it goes, and the build has failed", async () => {
    const screen = terminal(command(context(failing)), { rows: 24, columns: 200, env });
    await screen.until("has left, without the step's mounts");
    await screen.until(prompt);
    expect(screen.shown()).toMatch(/ERROR: The command .* returned a non-zero code: 9/);
    screen.type("cat left-behind; echo $(id -u) $PWD $SAID $WORD; ls /run/secrets\n");
    await screen.until(/before\r\n77 \/here so of-the-argument\r\n/);
    // The arguments' values are in no image.
    const [left] = (await list("/images/json?all=1&filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D")) as [{ Id: string }];
    expect((await httpCall(daemon.socket, "GET", `/images/${left.Id}/json`)).text).not.toContain("of-the-argument");
    screen.type("exit 3\n");
    expect(await screen.exited).toBe(9);
    await gone();
  });

  test("a terminal that goes takes it along", async () => {
    const screen = terminal(command(context(failing)), { rows: 24, columns: 200, env });
    await screen.until(prompt);
    screen.kill();
    await screen.exited;
    await gone();
  });

  test("without a terminal: how to get one, which works", async () => {
    const { code, stderr } = await run(command(context(failing)), { env });
    expect(code).toBe(9);
    const image = /left is the image (sha256:[0-9a-f]{64})/.exec(stderr)?.[1];
    const line = /^ {4}wherry (run --rm -it .*)$/m.exec(stderr)?.[1]?.split(" ") ?? [];
    expect(line).toEqual(["run", "--rm", "-it", "--network", "none", "--entrypoint", "/bin/sh", image]);
    expect((await wherry(...line.filter((word) => word !== "-it"), "-c", "cat left-behind")).stdout).toBe("before\n");
    expect(await wherry("rmi", image!)).toMatchObject({ code: 0 });
    await gone();
  });

  test("a build that succeeds, and one that fails otherwise, leave nothing", async () => {
    const built = await run(command(context("FROM busybox\nRUN true\n")), { env });
    expect(built).toMatchObject({ code: 0 });
    await wherry("image", "prune", "-f");
    await gone();
    const failed = await run(command(context("FROM busybox\nCOPY missing /\n")), { env });
    expect(failed.code).not.toBe(0);
    expect(failed.stderr).not.toContain("is the image");
    await gone();
  });
});
