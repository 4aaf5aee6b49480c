/** What our own command line has beyond docker's, as its user meets it: volumes' content, waiting for health, marks, near misses, sockets, completion. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasProgram, TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { busyboxArchive } from "./images.ts";
import { ok, type Result, run, terminal } from "./run.ts";

const reason = whyNot();
if (reason) console.warn(`our own commands: skipped: ${reason}`);

describe.skipIf(reason !== undefined)(`our own commands${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const daemon = new TestDaemon();
  const work = mkdtempSync(join(tmpdir(), "wt-own-"));
  const env = { WHERRY_HOST: daemon.host };
  const wherry = (...args: string[]): Promise<string> => ok([wherryPath, ...args], { env });
  const failed = async (...args: string[]): Promise<Result> => {
    const result = await run([wherryPath, ...args], { env });
    expect(result.code, args.join(" ")).not.toBe(0);
    return result;
  };
  beforeAll(async () => {
    await daemon.start();
    await wherry("load", "-q", "-i", busyboxArchive(work).path);
  });
  afterAll(async () => {
    expect(await daemon.stop()).toEqual([]);
    rmSync(work, { recursive: true, force: true });
  });

  test("volume clone, export, import, rename: the files go where they should, and nothing is written over", async () => {
    await wherry(
      "run",
      "--rm",
      "-v",
      "data:/d",
      "busybox",
      "sh",
      "-c",
      "echo one > /d/file; mkdir /d/sub; ln -s ../file /d/sub/link; chown 5:6 /d/file; chmod 640 /d/file",
    );
    const show = (volume: string) =>
      wherry("run", "--rm", "-v", `${volume}:/d`, "busybox", "sh", "-c", "cd /d; find . | sort; stat -c '%u %g %a' file; cat sub/link");
    const content = ".\n./file\n./sub\n./sub/link\n5 6 640\none";
    expect(await show("data")).toBe(content);
    expect(await wherry("volume", "clone", "data", "copy")).toBe("copy");
    expect(await show("copy")).toBe(content);
    const tar = join(work, "data.tar");
    await wherry("volume", "export", "-o", tar, "data");
    expect(await ok(["tar", "-tf", tar])).toMatch(/file\n.*sub\//s);
    await wherry("volume", "import", "fresh", tar);
    expect(await show("fresh")).toBe(content);
    await ok(["sh", "-c", `'${wherryPath}' volume export data | '${wherryPath}' volume import piped -`], { env });
    expect(await show("piped")).toBe(content);
    await wherry("volume", "rename", "copy", "renamed");
    expect(await show("renamed")).toBe(content);
    expect((await wherry("volume", "ls", "-q")).split("\n")).toEqual(["data", "fresh", "piped", "renamed"]);
    expect((await failed("volume", "clone", "data", "fresh")).stderr).toContain("already exists");
    expect((await failed("volume", "rename", "nobody", "x")).stderr).toContain("no such volume");
    expect((await failed("volume", "export", "nobody")).stderr).toContain("no such volume");
    await wherry("run", "-d", "--name", "user", "-v", "data:/d", "busybox", "sleep", "1000");
    expect((await failed("volume", "rename", "data", "y")).stderr).toMatch(/in use|user/);
    await wherry("rm", "-f", "user");
    await wherry("volume", "rm", "data", "fresh", "piped", "renamed");
  });

  test("run --wait=healthy returns when it is, and says why it will not be", async () => {
    const health = (test: string) => ["--health-cmd", test, "--health-interval", "100ms", "--health-retries", "2"];
    const id = await wherry(
      "run",
      "-d",
      "--name",
      "good",
      "--wait=healthy",
      ...health("test -e /ready"),
      "--health-start-period",
      "60s",
      "--health-start-interval",
      "100ms",
      "busybox",
      "sh",
      "-c",
      "sleep 0.5; touch /ready; sleep 1000",
    );
    expect(await wherry("inspect", "-f", "{{.Id}} {{.State.Health.Status}}", "good")).toBe(`${id} healthy`);
    expect((await failed("run", "-d", "--name", "bad", "--wait=healthy", ...health("echo not today; false"), "busybox", "sleep", "1000")).stderr).toMatch(
      /unhealthy: not today/,
    );
    expect((await failed("run", "-d", "--name", "ended", "--wait=healthy", ...health("false"), "busybox", "sh", "-c", "exit 4")).stderr).toMatch(/exit code 4/);
    expect((await failed("run", "-d", "--wait=healthy", "--name", "none", "busybox", "sleep", "1000")).stderr).toMatch(/health/);
    expect((await failed("run", "--wait=healthy", "busybox", "true")).stderr).toContain("--wait needs --detach");
    await wherry("rm", "-f", "good", "bad", "ended", "none");
  });

  test("ps on a terminal marks ports that are open to the world; elsewhere it is docker's", async () => {
    await wherry("run", "-d", "--name", "open", "-p", "0.0.0.0::80", "-p", "127.0.0.1::81", "busybox", "sleep", "1000");
    const shown = async (...args: string[]): Promise<string> => {
      const screen = terminal([wherryPath, "ps", ...args], { rows: 20, columns: 250, env });
      expect(await screen.exited).toBe(0);
      return screen.shown();
    };
    expect(await shown()).toMatch(/0\.0\.0\.0:\d+->80\/tcp \(open to the world\)/);
    expect(await shown()).not.toMatch(/127\.0\.0\.1:\d+->81\/tcp \(open/);
    expect(await shown("--mark-open=false")).not.toContain("open to the world");
    expect(await wherry("ps")).not.toContain("open to the world");
    await wherry("rm", "-f", "open");
  });

  test("a near miss of a command or flag is told", async () => {
    expect((await failed("imgaes")).stderr).toContain("Did you mean 'wherry images'?");
    expect((await failed("volume", "lss")).stderr).toContain("Did you mean 'wherry volume ls'?");
    expect((await failed("run", "--detatch", "busybox")).stderr).toMatch(/unknown flag: --detatch/);
  });

  test("socket create, ls, rm", async () => {
    const path = join(work, "s.sock");
    expect(await wherry("socket", "create", "watch", "--allow", "containers:read,events", "--allow", "system", "--label", "a=b", "--path", path)).toBe(path);
    expect(await wherry("socket", "ls", "--format", "{{.Name}} {{.Allow}} {{.Labels}} {{.Mode}} {{.Owner}}")).toBe(
      "watch containers:read,events,system a=b 660 0:0",
    );
    expect((await failed("socket", "create", "watch", "--allow", "events", "--path", `${path}2`)).stderr).toContain("there is a socket watch already");
    expect((await failed("socket", "create", "x", "--allow", "everything")).stderr).toContain('unknown right "everything"');
    expect((await failed("socket", "create", "x")).stderr).toContain("say what the socket allows");
    expect(await ok([wherryPath, "ps", "-q"], { env: { WHERRY_HOST: `unix://${path}` } })).toBe("");
    await wherry("socket", "rm", "watch");
    expect([existsSync(path), await wherry("socket", "ls", "-q"), readFileSync(join(daemon.dataRoot, "sockets.json"), "utf8")]).toEqual([false, "", "[]\n"]);
    expect((await failed("socket", "rm", "watch")).stderr).toContain("no such socket: watch");
  });

  /** What a shell offers for a line, by that shell itself. */
  const offers: Readonly<Record<string, (line: string) => string>> = {
    zsh: (line) =>
      `compdef() { :; }; _describe() { print -l -- "\${(@P)2}"; }; _files() { :; }; source <(wherry completion zsh); words=(${line.replace(/ $/, " ''")}); CURRENT=$#words; _wherry`,
    fish: (line) => `wherry completion fish | source; complete -C '${line}'`,
  };
  for (const [shell, script] of Object.entries(offers)) {
    const missing = hasProgram(shell) ? undefined : `${shell} is not installed`;
    if (missing) console.warn(`completion: skipped: ${missing}`);
    test.skipIf(missing !== undefined)(`completion by ${shell}${missing ? ` (skipped: ${missing})` : ""}`, async () => {
      const path = { ...env, PATH: `${dirname(wherryPath)}:${process.env["PATH"]}`, HOME: work };
      const words = async (line: string) => (await ok([shell, "-c", script(line)], { env: path })).split("\n").map((one) => one.split(/[\t:]/)[0]);
      expect(await words("wherry volume c")).toEqual(["clone", "create"]);
      expect(await words("wherry run --health-h")).toEqual(["--health-http"]);
      expect(await words("wherry socket ")).toEqual(expect.arrayContaining(["create", "ls", "rm"]));
    });
  }
});
