/**
 * Where a build's files come from, by our own command line (root): a directory that the engine reads itself, git, URLs, archives of every compression, contexts by name; and where the result goes.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, statSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { contextsIn, enginesToBuildOn, putFiles } from "./building.ts";
import { hasProgram, httpCall, TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { cleanEnv, eventually, ok, type Result, run } from "./run.ts";

const reason = whyNot();
if (reason) console.warn(`build-sources: skipped: ${reason}`);
const noGit = hasProgram("git") ? undefined : "no git";
if (noGit) console.warn(`build-sources: skipped: ${noGit}`);

describe.skipIf(reason !== undefined)(`sources of builds${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const {
    work,
    engines: [daemon],
  } = enginesToBuildOn("wt-sources-", [new TestDaemon()]);
  const env = { WHERRY_HOST: daemon.host };

  const context = contextsIn(work);
  const build = (...args: string[]): Promise<Result> => run([wherryPath, "build", "--progress=plain", "--network=none", ...args], { env });
  const built = async (...args: string[]): Promise<Result> => {
    const result = await build(...args);
    if (result.code !== 0) throw new Error(result.stderr);
    return result;
  };
  const inImage = (tag: string, ...command: string[]) => ok([wherryPath, "run", "--rm", "--network=none", tag, ...command], { env });

  test("a directory: ignore rules, links, two names of a file; every change is seen, no other is a miss", async () => {
    const folder = context({
      Dockerfile: "FROM busybox\nCOPY . /c/\n",
      ".dockerignore": "out\n!out/kept\n*.log\n",
      "out/left": "x",
      "out/kept": "kept",
      "a.log": "x",
      "d/a": "1",
    });
    symlinkSync("d/a", join(folder, "link"));
    symlinkSync("loop", join(folder, "loop"));
    spawnSync("ln", [join(folder, "d/a"), join(folder, "d/same")]);
    await built("-t", "dir", folder);
    expect(await inImage("dir", "sh", "-c", "cd /c; find . | sort; stat -c %h d/a; readlink loop; cat link out/kept")).toBe(
      ".\n./.dockerignore\n./Dockerfile\n./d\n./d/a\n./d/same\n./link\n./loop\n./out\n./out/kept\n2\nloop\n1kept",
    );
    const cached = async () => /COPY[^\n]*\n(#\d+ cached: .*\n)?(#\d+ )?CACHED/.test((await built("--explain-cache", "-t", "dir", folder)).stderr);
    expect(await cached()).toBe(true);
    utimesSync(join(folder, "d/a"), 5, 5);
    putFiles(folder, { "b.log": "ignored" });
    expect(await cached()).toBe(true);
    // The same size within one tick of the clock, and the time put back.
    const { atime, mtime } = statSync(join(folder, "d/a"));
    writeFileSync(join(folder, "d/a"), "2");
    utimesSync(join(folder, "d/a"), atime, mtime);
    const changed = await built("--explain-cache", "-t", "dir", folder);
    expect(changed.stderr).toMatch(/2 of \d+ files changed: d\/a, d\/same/);
    expect(await inImage("dir", "cat", "/c/link")).toBe("2");
  });

  test("a Dockerfile from elsewhere; a context that is missing", async () => {
    const folder = context({ "a.txt": "a\n" });
    const file = join(context({ Other: "FROM busybox\nCOPY a.txt /\n", "Other.dockerignore": "b.txt\n" }), "Other");
    await built("-f", file, folder);
    expect((await build("-f", file, join(work, "nowhere"))).stderr).toMatch(/unable to prepare context: path ".*nowhere" not found/);
    expect((await build(file)).stderr).toContain("context must be a directory");
  });

  test("contexts by name: a directory, an image; one that the engine cannot reach is refused", async () => {
    const folder = context({ Dockerfile: "FROM base\nCOPY --from=other b /b\nRUN cat /b\n" });
    const other = context({ b: "from the other\n" });
    const result = await built("--build-context", `other=${other}`, "--build-context", "base=docker-image://busybox", folder);
    expect(result.stderr).toContain("from the other");
    expect((await build("--build-context", "nonsense", folder)).stderr).toContain("invalid context value: nonsense");
    const sent = await run([wherryPath, "build", "--build-context", `other=${other}`, "-"], { env, input: "FROM busybox\n" });
    expect(sent.stderr).toContain("the build context other is a directory");
  });

  test("--check: what is unwise, by line; nothing is built", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nCMD echo hi\n", Good: 'FROM busybox\nCMD ["x"]\n', Bad: "FROM busybox\nNONSENSE\n" });
    const checked = await run([wherryPath, "build", "--check", folder], { env });
    expect(checked).toMatchObject({ code: 1 });
    expect(checked.stdout).toContain("Check complete, 1 warning has been found!");
    expect(checked.stdout).toMatch(
      /WARNING: JSONArgsRecommended - https:\S+\nJSON arguments[^\n]*\n\S*Dockerfile:2\n-+\n +1 \| +FROM busybox\n +2 \| >>> CMD echo hi/,
    );
    expect(await ok([wherryPath, "build", "--check", "-f", join(folder, "Good"), folder], { env })).toBe("Check complete, no warnings found.");
    expect((await run([wherryPath, "build", "--check", "-f", join(folder, "Bad"), folder], { env })).stderr).toContain("unknown instruction: NONSENSE");
  });

  test("--no-cache-filter runs the steps of one stage; --ssh leads to an agent", async () => {
    const folder = context({ Dockerfile: "FROM busybox AS one\nRUN echo 1 >/1\nFROM busybox AS two\nRUN echo 2 >/2\nCOPY --from=one /1 /\n" });
    await built(folder);
    const again = (await built("--explain-cache", "--no-cache-filter", "one", folder)).stderr;
    expect(again).toMatch(/not cached: --no-cache-filter/);
    expect(again.match(/ CACHED/g)?.length).toBeGreaterThanOrEqual(1);
    const agentPath = join(work, "agent.sock");
    const agent = createServer().listen(agentPath);
    await once(agent, "listening");
    putFiles(folder, { Dockerfile: "FROM busybox\nRUN --mount=type=ssh,id=mine test -S $SSH_AUTH_SOCK\n" });
    await built("--ssh", `mine=${agentPath}`, folder);
    agent.close();
    putFiles(folder, { Dockerfile: "FROM busybox\nRUN --mount=type=ssh,id=none,required true\n" });
    expect((await build("--ssh", `mine=${agentPath}`, folder)).stderr).toContain("unset ssh forward key none");
  });

  test("limits of RUN: ulimits and memory", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nRUN ulimit -n\n" });
    expect((await built("--ulimit", "nofile=123:456", "--memory", "256m", "--memory-swap", "-1", "--cpu-shares", "512", folder)).stderr).toMatch(/ 123\n/);
    expect((await build("--ulimit", "nonsense=1", folder)).stderr).toContain("invalid ulimit type: nonsense");
  });

  test("ADD of archives in every compression, of an URL, and with a wrong checksum", async () => {
    const folder = context({ "in/file": "packed\n" });
    const programs = { tar: undefined, gz: "gzip", bz2: "bzip2", xz: "xz", zst: "zstd" } as const;
    const there = Object.entries(programs).filter(([, program]) => program === undefined || hasProgram(program));
    for (const [suffix, program] of there)
      await ok([
        "tar",
        "-C",
        join(folder, "in"),
        ...(program === undefined ? [] : [`--use-compress-program=${program}`]),
        "-cf",
        join(folder, `a.${suffix}`),
        "file",
      ]);
    const server = createHttpServer((request, reply) => {
      reply.statusCode = request.url === "/there.txt" ? 200 : 404;
      reply.end("from afar\n");
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    try {
      const adds = there.map(([suffix]) => `ADD a.${suffix} /${suffix}/`);
      putFiles(folder, { Dockerfile: ["FROM busybox", ...adds, `ADD ${url}/there.txt /d/`, "RUN cat /*/file /d/there.txt", ""].join("\n") });
      expect((await built("-t", "adds", folder)).stderr.match(/ packed/g)).toHaveLength(there.length);
      expect(await inImage("adds", "cat", "/d/there.txt")).toBe("from afar");
      putFiles(folder, { Dockerfile: `FROM busybox\nADD --checksum=sha256:${"0".repeat(64)} ${url}/there.txt /d/\n` });
      expect((await build(folder)).stderr).toContain("digest mismatch");
      putFiles(folder, { Dockerfile: `FROM busybox\nADD ${url}/gone.txt /d/\n` });
      expect((await build(folder)).stderr).toMatch(/gone\.txt.*404/);
    } finally {
      server.close();
    }
  });

  test("ONBUILD: triggers run in the stage that is built on it, and are gone then", async () => {
    await built("-t", "parent", context({ Dockerfile: "FROM busybox\nONBUILD ARG WHAT=x\nONBUILD COPY a /a\nONBUILD RUN echo $WHAT >>/a\n" }));
    const folder = context({ Dockerfile: "FROM parent\nCMD cat /a\n", a: "copied\n" });
    await built("-t", "child", "--build-arg", "WHAT=given", folder);
    expect(await inImage("child")).toBe("copied\ngiven");
    const image = await httpCall(daemon.socket, "GET", "/images/child/json");
    expect(image.json<{ Config: { OnBuild?: unknown } }>().Config.OnBuild ?? null).toBe(null);
  });

  test("outputs: -q, --iidfile, --metadata-file, tar, OCI, a directory", async () => {
    const folder = context({ Dockerfile: "FROM scratch\nCOPY a /d/a\n", a: "content\n" });
    const to = (name: string) => join(work, `to-${name}`);
    const quiet = await run([wherryPath, "build", "-q", "-t", "named", "--iidfile", to("iid"), "--metadata-file", to("metadata"), folder], { env });
    expect(quiet).toMatchObject({ code: 0, stderr: "" });
    expect(readFileSync(to("iid"), "utf8")).toBe(quiet.stdout.trim());
    expect(JSON.parse(readFileSync(to("metadata"), "utf8"))).toMatchObject({ "containerimage.config.digest": quiet.stdout.trim(), "image.name": "named" });
    await built("-o", `type=tar,dest=${to("tar")}`, folder);
    expect(await ok(["tar", "tf", to("tar")])).toContain("d/a");
    await built("-o", `type=oci,dest=${to("oci")}`, folder);
    expect(await ok(["tar", "tf", to("oci")])).toContain("oci-layout");
    await built("-o", to("dir"), folder);
    expect(readFileSync(join(to("dir"), "d/a"), "utf8")).toBe("content\n");
  });

  test.skipIf(noGit !== undefined)("git: a context by reference and directory, ADD of a repository, commits, links that lead out", async () => {
    const repositories = join(work, "git");
    const repository = join(repositories, "r.git");
    putFiles(repository, {
      "sub/Dockerfile": "FROM busybox\nCOPY a /a\n",
      "sub/a": "first\n",
      Dockerfile: "FROM busybox\nCOPY . /all/\n",
      ".dockerignore": "sub\n",
    });
    symlinkSync("/etc", join(repository, "etc"));
    const git = (...args: string[]) =>
      ok(["git", "-C", repository, "-c", "user.name=t", "-c", "user.email=t@t", ...args], { env: { HOME: work, GIT_CONFIG_NOSYSTEM: "1" } });
    await git("init", "-q", "-b", "main");
    await git("add", ".");
    await git("commit", "-qm", "one");
    await git("tag", "v1");
    putFiles(repository, { "sub/a": "second\n" });
    await git("commit", "-qam", "two");
    const commit = await git("rev-parse", "HEAD");
    const probe = createServer().listen(0, "127.0.0.1");
    await once(probe, "listening");
    const { port } = probe.address() as AddressInfo;
    probe.close();
    const serving = spawn(
      "git",
      ["daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1", `--port=${port}`, `--base-path=${repositories}`, repositories],
      {
        stdio: "ignore",
        detached: true,
        env: cleanEnv({ HOME: work }),
      },
    );
    const url = `git://127.0.0.1:${port}/r.git`;
    try {
      await eventually(
        () => run(["git", "ls-remote", url]),
        ({ code }) => code === 0,
      );
      await built("-t", "git-head", `${url}#:sub`);
      expect(await inImage("git-head", "cat", "/a")).toBe("second");
      await built("-t", "git-tag", `${url}#v1:sub`);
      expect(await inImage("git-tag", "cat", "/a")).toBe("first");
      await built("-t", "git-root", url);
      expect(await inImage("git-root", "sh", "-c", "ls -A /all")).toBe(".dockerignore\nDockerfile\netc");
      const adds = context({
        Dockerfile: `FROM busybox\nADD --checksum=${commit} ${url}#main /r/\nADD --keep-git-dir=true ${url}#${commit} /k/\nRUN cat /r/sub/a; ls -d /k/.git; test ! -e /r/.git\n`,
      });
      expect((await built(adds)).stderr).toMatch(/second[\s\S]*\/k\/\.git/);
      putFiles(adds, { Dockerfile: `FROM busybox\nADD --checksum=${"0".repeat(40)} ${url} /r/\n` });
      expect((await build(adds)).stderr).toContain("expected checksum to match");
      expect((await build(`${url}#main:etc`)).stderr).toContain("leads out of the repository");
      expect((await build(`${url}#nothing`)).stderr).toMatch(/git fetch: .*nothing/);
      const marker = join(work, "injected");
      for (const bad of [`${url}#--upload-pack=touch ${marker}`, `ssh://-oProxyCommand=touch%20${marker}/x.git`])
        expect((await build(bad)).stderr).toContain("invalid git");
      expect(existsSync(marker)).toBe(false);
    } finally {
      // The daemon's children are of its group.
      process.kill(-serving.pid!, "SIGKILL");
    }
  });
});
