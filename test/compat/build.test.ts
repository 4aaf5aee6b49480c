/**
 * The classic build as docker's client drives it (root).
 */
import { symlinkSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { contextsIn, enginesToBuildOn, type Files } from "./building.ts";
import { hasProgram, TestDaemon, whyNot } from "./daemon.ts";
import { ok, type Result, run } from "./run.ts";

const reason = whyNot() ?? (hasProgram("docker") ? undefined : "no docker client");
if (reason) console.warn(`build: skipped: ${reason}`);

describe.skipIf(reason !== undefined)(`docker build, classic${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const {
    work,
    engines: [daemon],
  } = enginesToBuildOn("wt-build-", [new TestDaemon()]);
  const env = { DOCKER_HOST: daemon.host, DOCKER_CONFIG: join(work, "docker-config"), DOCKER_BUILDKIT: "0" };

  const contextOf = contextsIn(work);
  const context = (files: Files): string => contextOf({ Dockerfile: "", ...files });
  const build = (folder: string, ...args: string[]): Promise<Result> => run(["docker", "build", ...args, folder], { env });
  const out = (...args: string[]): Promise<string> => ok(["docker", ...args], { env });

  test("a Dockerfile becomes an image that runs; again, all of it comes from the cache", async () => {
    const folder = context({
      Dockerfile: 'FROM busybox\nARG WHO=world\nENV X=1\nWORKDIR /app\nCOPY src/ ./\nRUN echo hello $WHO > out; cat a.txt\nCMD ["cat", "out"]\n',
      "src/a.txt": "from the context\n",
    });
    symlinkSync("a.txt", join(folder, "src/link"));
    const first = await build(folder, "-t", "thin", "--build-arg", "WHO=you", "--build-arg", "UNUSED=1");
    expect(first.stderr).not.toContain("rror");
    expect(first.stdout).toMatch(/Step 1\/7 : FROM busybox\n ---> [0-9a-f]{12}\nStep 2\/7 : ARG WHO=world\n/);
    expect(first.stdout).toMatch(/ ---> Running in [0-9a-f]{12}\nfrom the context\nRemoving intermediate container [0-9a-f]{12}\n ---> [0-9a-f]{12}\n/);
    expect(first.stdout).toContain("[Warning] One or more build-args [UNUSED] were not consumed\n");
    expect(first.stdout).toMatch(/Successfully built [0-9a-f]{12}\nSuccessfully tagged thin:latest\n$/);
    expect(await out("run", "--rm", "thin")).toBe("hello you");
    expect(await out("run", "--rm", "thin", "sh", "-c", "readlink link; pwd; echo $X")).toBe("a.txt\n/app\n1");
    const id = (await out("images", "-q", "--no-trunc", "thin")).trim();

    // Times are no part of it.
    utimesSync(join(folder, "src/a.txt"), 1, 1);
    const second = await build(folder, "-q", "-t", "thin", "--build-arg", "WHO=you");
    expect(second.stdout.trim()).toBe(id);
    const third = await build(folder, "--build-arg", "WHO=them");
    expect(third.stdout.match(/Using cache/g)).toHaveLength(4);
    expect(await out("ps", "-aq")).toBe("");
  });

  test("failures are told in docker's words, and leave nothing", async () => {
    const failing = await build(context({ Dockerfile: "FROM busybox\nRUN echo before; exit 3\n" }), "-t", "never");
    expect(failing.stdout).toContain("before\n");
    expect(failing.stderr).toContain("The command '/bin/sh -c echo before; exit 3' returned a non-zero code: 3");
    expect(failing.code).toBe(3);
    const missing = await build(context({ Dockerfile: "FROM busybox\nCOPY nothing /x\n" }));
    expect(missing.stderr).toContain("COPY failed: file not found in build context or excluded by .dockerignore: stat nothing: file does not exist");
    const misspelt = await build(context({ Dockerfile: "FROM busybox\nRNU true\n" }));
    expect(misspelt.stderr).toContain("dockerfile parse error on line 2: unknown instruction: RNU (did you mean RUN?)");
    expect(await out("images", "-q", "never")).toBe("");
    // As docker leaves it: what has failed can be looked at, unless --force-rm was said.
    const left = (await out("ps", "-aq")).split("\n");
    expect(left).toHaveLength(1);
    await out("rm", ...left);
    await build(context({ Dockerfile: "FROM busybox\nRUN exit 4\n" }), "--force-rm");
    expect(await out("ps", "-aq")).toBe("");
  });

  test("stages: only those that are needed run, and files go from one to another", async () => {
    const folder = context({
      Dockerfile: [
        "FROM busybox AS unused",
        "RUN exit 1",
        "FROM busybox AS made",
        "RUN mkdir -p /out/sub && echo made > /out/sub/file && chown -R 5:6 /out && ln -s sub /out/link",
        "FROM scratch AS bare",
        "COPY --from=made /out /",
        "FROM bare",
        "COPY --from=busybox /bin/busybox /bin/",
        "COPY --chown=7:8 --chmod=640 a.txt /x/",
        'CMD ["/bin/busybox", "ls", "-ln", "/", "/sub", "/x"]',
      ].join("\n"),
      "a.txt": "a",
    });
    expect((await build(folder, "-t", "stages")).stderr).not.toContain("rror");
    const listing = await out("run", "--rm", "stages");
    expect(listing).toMatch(/-rw-r--r--\s+1 5\s+6\s+5 .* file\n/);
    expect(listing).toMatch(/-rw-r-----\s+1 7\s+8\s+1 .* a.txt/);
    expect(listing).toMatch(/link -> sub/);
  });

  test("a prune of containers takes none of a step", async () => {
    const folder = context({ Dockerfile: `FROM busybox\n${"RUN date >> /dates\n".repeat(5)}CMD ["wc", "-l", "/dates"]\n` });
    let ended = false;
    const building = build(folder, "--no-cache", "-t", "pruned").finally(() => {
      ended = true;
    });
    let prunes = 0;
    for (; !ended; prunes++) await out("container", "prune", "-f");
    expect(prunes).toBeGreaterThan(1);
    expect((await building).stderr).not.toContain("rror");
    expect(await out("run", "--rm", "pruned")).toBe("5 /dates");
  });

  test("mounts of RUN: a cache stays, a context is seen, and neither is in the layer", async () => {
    const dockerfile = (n: number) =>
      `FROM busybox\nRUN --mount=type=cache,target=/keep --mount=type=bind,target=/ctx --mount=type=tmpfs,target=/fast echo ${n} >> /keep/n; cat /keep/n /ctx/a.txt; touch /fast/x; echo done > /done\n`;
    const first = await build(context({ Dockerfile: dockerfile(1), "a.txt": "seen\n" }), "-t", "mounts");
    expect(first.stdout).toContain("1\nseen\n");
    const second = await build(context({ Dockerfile: dockerfile(2), "a.txt": "seen\n" }), "-t", "mounts");
    expect(second.stdout).toContain("1\n2\nseen\n");
    expect(await out("run", "--rm", "mounts", "sh", "-c", "ls -d /keep /ctx /fast 2>/dev/null; cat /done")).toBe("done");
  });
});
