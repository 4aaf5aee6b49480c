/**
 * What the build cache may answer, and what it must not (root). Each case builds twice with one thing changed in between, and says which steps may have come from the cache.
 */
import { spawn } from "node:child_process";
import { chmodSync, readdirSync, readFileSync, renameSync, statSync, symlinkSync, unlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { contextsIn, enginesToBuildOn, putFiles } from "./building.ts";
import { TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { cleanEnv, eventually, ok, type Result, run } from "./run.ts";

const reason = whyNot();
if (reason) console.warn(`build-cache: skipped: ${reason}`);

describe.skipIf(reason !== undefined)(`the build cache${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const {
    work,
    engines: [daemon],
  } = enginesToBuildOn("wt-bcache-", [new TestDaemon()]);
  const env = { WHERRY_HOST: daemon.host };
  const wherry = (...args: string[]): Promise<Result> => run([wherryPath, ...args], { env });

  const context = contextsIn(work);
  const put = (folder: string, name: string, content: string) => putFiles(folder, { [name]: content });
  /** For each step after FROM that does something to the root: whether the cache answered, or why not. */
  const build = async (folder: string, ...args: string[]): Promise<string[]> => {
    const result = await wherry("build", "--progress", "plain", "--explain-cache", ...args, folder);
    if (result.code !== 0) throw new Error(result.stderr);
    const steps = new Map<string, string>();
    for (const [, number, what] of result.stderr.matchAll(/^#(\d+) (\[.*\] (?:RUN|COPY|ADD|WORKDIR).*|CACHED|not cached: .*)$/gm)) {
      if (what!.startsWith("[")) steps.set(number!, "?");
      else if (steps.has(number!)) steps.set(number!, what === "CACHED" ? "hit" : what!.replace("not cached: ", ""));
    }
    // Stages run side by side.
    return [...steps].sort(([a], [b]) => Number(a) - Number(b)).map(([, outcome]) => outcome);
  };

  /** A loaded machine takes its time. */
  const patienceMs = 60_000;
  const stepRuns = () => eventually(async () => (await wherry("ps", "-q")).stdout, Boolean, patienceMs);
  const stepIsGone = () =>
    eventually(
      async () => (await wherry("ps", "-aq")).stdout,
      (ids) => ids === "",
      patienceMs,
    );

  const copyAll = { Dockerfile: "FROM busybox\nCOPY src /src\n", "src/a.txt": "a", "src/b/c.txt": "c" };

  test.each<[what: string, change: (folder: string) => void, outcome: string]>([
    ["nothing", () => undefined, "hit"],
    ["the time of a file", (f) => utimesSync(join(f, "src/a.txt"), 1, 1), "hit"],
    ["a file beside it", (f) => put(f, "other.txt", "x"), "hit"],
    ["a file's content", (f) => put(f, "src/b/c.txt", "d"), "1 of 3 files changed: b/c.txt"],
    ["a file's mode", (f) => chmodSync(join(f, "src/a.txt"), 0o600), "1 of 3 files changed: a.txt"],
    ["a directory's mode", (f) => chmodSync(join(f, "src/b"), 0o700), "1 of 3 files changed: b"],
    ["a file's name", (f) => renameSync(join(f, "src/a.txt"), join(f, "src/z.txt")), "2 of 3 files changed: a.txt (gone), z.txt (new)"],
    ["one file more", (f) => put(f, "src/new", ""), "1 of 4 files changed: new (new)"],
    ["one file less", (f) => unlinkSync(join(f, "src/a.txt")), "1 of 2 files changed: a.txt (gone)"],
    [
      "a file that becomes a link to the same content",
      (f) => {
        unlinkSync(join(f, "src/a.txt"));
        symlinkSync("../elsewhere", join(f, "src/a.txt"));
      },
      "1 of 3 files changed: a.txt",
    ],
    ["what is ignored", (f) => put(f, ".dockerignore", "nothing-here\n"), "hit"],
  ])("COPY of a directory, changed: %s", async (_what, change, outcome) => {
    const folder = context({ ...copyAll, elsewhere: "a" });
    await wherry("builder", "prune", "-af");
    await build(folder);
    change(folder);
    expect(await build(folder)).toEqual([outcome]);
  });

  test("what has settled is known by one digest: no change goes unseen, whatever time it leaves behind", async () => {
    const folder = context({
      Dockerfile: "FROM busybox\nCOPY . /src\nRUN --mount=target=/m,source=src cat /m/a.txt >/seen\n",
      ".dockerignore": "ignored\n",
      "src/a.txt": "a",
    });
    // A clock's step: only what is older can be told from what comes after it.
    const settle = () => new Promise((resolve) => setTimeout(resolve, 100));
    const hits = ["hit", "hit"];
    await build(folder);
    await settle();
    expect(await build(folder)).toEqual(hits);
    expect(await build(folder)).toEqual(hits);
    const { atime, mtime } = statSync(join(folder, "src/a.txt"));
    put(folder, "src/a.txt", "b");
    utimesSync(join(folder, "src/a.txt"), atime, mtime);
    await settle();
    expect(await build(folder)).toEqual(["1 of 4 files changed: src/a.txt", "mount bind /m files changed; the step before it has another result"]);
    expect(await build(folder)).toEqual(hits);
    for (const [name, change] of [
      ["src/a.txt", () => chmodSync(join(folder, "src/a.txt"), 0o600)],
      ["src/new", () => put(folder, "src/new", "")],
      ["src/newer (new)", () => renameSync(join(folder, "src/new"), join(folder, "src/newer"))],
    ] as const) {
      change();
      await settle();
      expect((await build(folder))[0]).toContain(name);
      await settle();
      expect(await build(folder)).toEqual(hits);
    }
    put(folder, "ignored", "x");
    utimesSync(join(folder, "src/a.txt"), 1, 1);
    await settle();
    expect(await build(folder)).toEqual(hits);
    // What is known of the files is not what is copied: without the layer they are read again.
    await wherry("builder", "prune", "-af");
    expect((await build(folder, "-t", "again")).every((outcome) => outcome === "no such step is in the cache")).toBe(true);
    expect((await wherry("run", "--rm", "--network", "none", "again", "cat", "/seen", "/src/src/a.txt")).stdout).toBe("bb");
  });

  test("a link's target, and the file behind a link that COPY names", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nCOPY link /there\nCOPY dir /dir\n", one: "1", two: "2", "dir/x": "x" });
    symlinkSync("one", join(folder, "link"));
    symlinkSync("x", join(folder, "dir/l"));
    await build(folder);
    put(folder, "one", "changed");
    expect(await build(folder)).toEqual(["1 of 1 files changed: link", "the step before it has another result"]);
    unlinkSync(join(folder, "dir/l"));
    symlinkSync("y", join(folder, "dir/l"));
    expect(await build(folder)).toEqual(["hit", "1 of 2 files changed: l"]);
  });

  test("an ARG counts from where it is said; ENV, the user and the directory count", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nRUN echo 1\nARG V=1\nRUN echo $V >/v\nCOPY Dockerfile /\n" });
    await build(folder);
    const changed = await build(folder, "--build-arg", "V=2");
    expect(changed).toEqual(["hit", "ARG V changed", "the step before it has another result"]);
    expect(await build(folder)).toEqual(["hit", "hit", "hit"]);
    put(folder, "Dockerfile", "FROM busybox\nRUN echo 1\nENV E=1\nRUN echo again\n");
    await build(folder);
    put(folder, "Dockerfile", "FROM busybox\nRUN echo 1\nENV E=2\nRUN echo again\n");
    expect(await build(folder)).toEqual(["hit", "ENV E changed"]);
    put(folder, "Dockerfile", "FROM busybox\nRUN echo 1\nENV E=2\nUSER 5\nRUN echo again\n");
    expect(await build(folder)).toEqual(["hit", "user changed"]);
    // A proxy is no input.
    expect(await build(folder, "--build-arg", "HTTP_PROXY=http://127.0.0.1:1")).toEqual(["hit", "hit"]);
  });

  test("a secret that changed is another input, and neither it nor an argument is written anywhere", async () => {
    const folder = context({
      Dockerfile: 'FROM busybox\nARG TOKEN\nRUN --mount=type=secret,id=s test -s /run/secrets/s && wc -c </run/secrets/s >/n && test -n "$TOKEN"\n',
    });
    const secret = join(work, "secret");
    writeFileSync(secret, "hunter2-first");
    const args = ["--secret", `id=s,src=${secret}`, "--build-arg", "TOKEN=argument-of-mine", "-t", "secret"];
    await build(folder, ...args);
    expect(await build(folder, ...args)).toEqual(["hit"]);
    writeFileSync(secret, "hunter2-second");
    expect(await build(folder, ...args)).toEqual(["mount secret s content changed"]);
    const told = (await wherry("history", "--no-trunc", "secret")).stdout + (await wherry("inspect", "secret")).stdout;
    expect(told).not.toMatch(/hunter2|argument-of-mine/);
    // -s: files may go while it reads.
    expect((await run(["grep", "-rlsF", "hunter2", daemon.dataRoot, daemon.execRoot])).stdout).toBe("");
    expect((await wherry("run", "--rm", "secret", "ls", "-A", "/run")).stdout).toBe("");
  });

  test("another platform", async () => {
    const folder = context({ Dockerfile: "FROM scratch\nCOPY in /in\n", in: "1" });
    await build(folder);
    expect(await build(folder, "--platform", "linux/s390x")).toEqual(["platform changed"]);
    expect(await build(folder, "--platform", "linux/s390x")).toEqual(["hit"]);
    expect(await build(folder)).toEqual(["hit"]);
  });

  test("the order in which a tar has the files, and in which arguments are given, is no input", async () => {
    const folder = context({
      Dockerfile: "FROM busybox\nARG A\nARG B\nCOPY . /all\nRUN echo $A $B\n",
      "d/one": "1",
      "d/two": "2",
      z: "z",
    });
    const archive = join(work, "ordered.tar");
    const ofTar = async (names: readonly string[], ...args: string[]) => {
      await ok(["tar", "-C", folder, "--no-recursion", "-cf", archive, ...names]);
      const built = await run([wherryPath, "build", "--network", "none", "--progress", "plain", "--explain-cache", ...args, "-"], {
        env,
        input: readFileSync(archive),
      });
      if (built.code !== 0) throw new Error(built.stderr);
      return built.stderr.match(/CACHED$|not cached: .*$/gm);
    };
    await ofTar(["Dockerfile", "d", "d/one", "d/two", "z"], "--build-arg", "A=1", "--build-arg", "B=2");
    expect(await ofTar(["z", "d/two", "d", "d/one", "Dockerfile"], "--build-arg", "B=2", "--build-arg", "A=1")).toEqual(Array(4).fill("CACHED"));
  });

  test("another base, and --no-cache", async () => {
    const base = context({ Dockerfile: "FROM busybox\nRUN echo one >/one\n" });
    await build(base, "-t", "base");
    const folder = context({ Dockerfile: "FROM base\nRUN cat /one >/two\n" });
    await build(folder);
    put(base, "Dockerfile", "FROM busybox\nRUN echo other >/one\n");
    await build(base, "-t", "base");
    expect(await build(folder)).toEqual(["the step before it has another result"]);
    expect(await build(folder, "--no-cache")).toEqual(["--no-cache"]);
  });

  test("what a stage gives counts by its content: a stage that was run again with the same result asks nothing of others", async () => {
    const folder = context({ Dockerfile: "FROM busybox AS made\nCOPY in /in\nRUN wc -c </in >/out\nFROM busybox\nCOPY --from=made /out /\n", in: "aaa" });
    await build(folder);
    put(folder, "in", "bbb");
    expect(await build(folder)).toEqual(["1 of 1 files changed: in", "the step before it has another result", "hit"]);
    // What the stage gave is known by now, without a look at it.
    expect(await build(folder)).toEqual(["hit", "hit", "hit"]);
  });

  test("the same files and SOURCE_DATE_EPOCH give the same image with an empty cache, whatever the times", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nWORKDIR /w\nCOPY . .\nRUN echo made >made; ln made hard; mkdir d\nLABEL a=b\n", "x/y": "1" });
    const id = async () => (await wherry("build", "-q", "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", folder)).stdout.trim();
    const first = await id();
    utimesSync(join(folder, "x/y"), 1_800_000_000, 1_800_000_000);
    await wherry("builder", "prune", "-af");
    expect(first).toMatch(/^sha256:/);
    expect(await id()).toBe(first);
  });

  test("what is kept stays within the budget that a prune names, and a build goes on after one", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nRUN head -c 300000 /dev/zero >/a\nRUN head -c 300000 /dev/zero >/b\n" });
    await build(folder);
    await wherry("builder", "prune", "-f", "--keep-storage", "400000");
    const usage = JSON.parse((await run(["curl", "-s", "--unix-socket", daemon.socket, "http://d/system/df?type=build-cache"])).stdout) as {
      BuildCache: { Size: number }[];
    };
    expect(usage.BuildCache.reduce((sum, { Size }) => sum + Size, 0)).toBeLessThanOrEqual(400_000);
    await wherry("builder", "prune", "-af");
    expect((await build(folder)).every((outcome) => outcome === "no such step is in the cache")).toBe(true);
  });

  test("a daemon that is killed in the middle of a step leaves nothing of it", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nRUN echo kept >/kept\nRUN sleep 1000\n" });
    const building = wherry("build", folder);
    await stepRuns();
    await daemon.kill("SIGKILL");
    await building;
    await daemon.start();
    await stepIsGone();
    expect(readdirSync(join(daemon.dataRoot, "build/work"))).toEqual([]);
    put(folder, "Dockerfile", "FROM busybox\nRUN echo kept >/kept\nRUN true\n");
    expect((await build(folder))[0]).toBe("hit");
  });

  test("who goes away while a step runs ends it", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nRUN sleep 1000\n" });
    const client = spawn(wherryPath, ["build", folder], { env: cleanEnv(env), stdio: "ignore" });
    await stepRuns();
    client.kill("SIGKILL");
    await stepIsGone();
  });
});
