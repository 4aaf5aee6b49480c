/**
 * Builds that are hard on the builder (root): very many files, a very large one, links in circles, a daemon that is killed, a disk that is full, and what must be told to nobody.
 */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { loopFilesystem } from "../suites/loop-filesystem.ts";
import { contextsIn } from "./building.ts";
import { cliPlugin } from "./cli-plugin.ts";
import { hasProgram, TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { busyboxArchive } from "./images.ts";
import { cleanEnv, eventually, ok, type Result, run } from "./run.ts";

const reason = whyNot();
if (reason) console.warn(`build-hard: skipped: ${reason}`);

const longMs = 420_000;

/** Free bytes of the filesystem of a directory. */
function roomIn(directory: string): number {
  const { bavail, bsize } = statfsSync(directory);
  return bavail * bsize;
}

describe.skipIf(reason !== undefined)(`builds that are hard${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const work = mkdtempSync(join(tmpdir(), "wt-bhard-"));
  const { path: busybox } = reason === undefined ? busyboxArchive(work) : { path: "" };

  afterAll(() => rmSync(work, { recursive: true, force: true }));

  const context = contextsIn(work);
  const wherryOf =
    (daemon: TestDaemon) =>
    (...args: string[]): Promise<Result> =>
      run([wherryPath, ...args], { env: { WHERRY_HOST: daemon.host }, timeoutMs: longMs });

  /** A daemon for one test, with busybox. */
  const withDaemon = async (work: (daemon: TestDaemon, wherry: ReturnType<typeof wherryOf>) => Promise<void>, base?: string) => {
    const daemon = new TestDaemon(base === undefined ? {} : { base });
    await daemon.start();
    const wherry = wherryOf(daemon);
    let left: string[] = [];
    try {
      expect(await wherry("load", "-i", busybox)).toMatchObject({ code: 0 });
      await work(daemon, wherry);
    } finally {
      left = await daemon.stop();
    }
    expect(left).toEqual([]);
  };
  const build = async (wherry: ReturnType<typeof wherryOf>, folder: string, ...args: string[]) => {
    const built = await wherry("build", "--network", "none", "--progress", "plain", "--explain-cache", ...args, folder);
    if (built.code !== 0) throw new Error(built.stderr);
    return built;
  };
  /** The most memory that the daemon has had so far, bytes. */
  const peakBytes = (daemon: TestDaemon) => Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${daemon.pid}/status`, "utf8"))?.[1]) * 1024;
  const diskBytes = async (path: string) => Number((await ok(["du", "-s", "--block-size=1", path])).split("\t")[0]);

  test("100,000 small files: copied, answered by the cache, and the one that changes is found", { timeout: longMs }, () =>
    withDaemon(async (daemon, wherry) => {
      const folder = context({ Dockerfile: "FROM busybox\nCOPY files /files\nRUN find /files -type f | wc -l\n" });
      for (let directory = 0; directory < 100; directory++) {
        mkdirSync(join(folder, `files/${directory}`), { recursive: true });
        for (let file = 0; file < 1000; file++) writeFileSync(join(folder, `files/${directory}/${file}`), `${directory}/${file}`);
      }
      const before = peakBytes(daemon);
      expect((await build(wherry, folder)).stderr).toMatch(/ 100000$/m);
      expect((await build(wherry, folder)).stderr.match(/CACHED$/gm)).toHaveLength(2);
      writeFileSync(join(folder, "files/77/777"), "changed");
      const changed = (await build(wherry, folder)).stderr;
      expect(changed).toMatch(/not cached: .*77/);
      expect(changed).toMatch(/ 100000$/m);
      // Lists of names, not contents: some hundred bytes a file, several lists at a time.
      expect(peakBytes(daemon) - before).toBeLessThan(800 * 1024 ** 2);
    }),
  );

  test("a sparse file of more than 2 GiB: no memory holds it, what is kept of the context has its holes, and one layer has it once", { timeout: longMs }, () =>
    withDaemon(async (daemon, wherry) => {
      const folder = context({ Dockerfile: "FROM busybox\nCOPY big /big\nRUN stat -c %s /big && tail -c 4 /big\n", big: "" });
      const size = 2 ** 31 + 4096;
      truncateSync(join(folder, "big"), size);
      const file = await open(join(folder, "big"), "r+");
      await file.write("in the middle", 1024 ** 3 + 5);
      await file.write("end.", size - 4);
      await file.close();
      const before = peakBytes(daemon);
      expect((await build(wherry, folder)).stderr).toMatch(/ 2147487744\n.* end\.$/m);
      expect(peakBytes(daemon) - before).toBeLessThan(300 * 1024 ** 2);
      expect(await diskBytes(join(daemon.dataRoot, "build"))).toBeLessThan(20 * 1024 ** 2);
      expect(await diskBytes(daemon.dataRoot)).toBeLessThan(1.1 * size);
      expect((await build(wherry, folder)).stderr.match(/CACHED$/gm)).toHaveLength(2);
    }),
  );

  test("links in circles are copied as links; what one has to follow them for fails with the reason", () =>
    withDaemon(async (_daemon, wherry) => {
      const files = {
        "d/file": "x",
        Dockerfile: "FROM busybox\nCOPY . /all\nRUN cd /all && for l in a b self d/up; do readlink $l; done && cat d/up/d/file\n",
      };
      const folder = context(files);
      for (const [name, target] of Object.entries({ a: "b", b: "a", self: "self", "d/up": ".." })) symlinkSync(target, join(folder, name));
      expect((await build(wherry, folder)).stderr).toMatch(/ b\n.* a\n.* self\n.* \.\.\n/);
      for (const line of [
        "COPY self /x",
        "COPY a/ /x/",
        "ADD b /x",
        "COPY d/up/self /x",
        "RUN --mount=type=bind,source=self,target=/m true",
        "COPY self* /x/\nRUN cat /x/self",
      ]) {
        writeFileSync(join(folder, "Dockerfile"), `FROM busybox\n${line}\n`);
        const failed = await wherry("build", "--network", "none", folder);
        expect([line, failed.code === 0]).toEqual([line, false]);
        expect(failed.stderr).toMatch(/not found|too many|symbolic link|no such file|loop/i);
      }
      writeFileSync(
        join(folder, "Dockerfile"),
        "FROM busybox AS one\nRUN ln -s loop /loop; ln -s / /root-again\nFROM busybox\nCOPY --from=one /root-again/bin/busybox /again\nCOPY --from=one /loop /x\n",
      );
      const failed = await wherry("build", "--network", "none", "--progress", "plain", folder);
      expect(failed.code).not.toBe(0);
      expect(failed.stderr).toMatch(/#\d+ ERROR: .*(not found|too many|symbolic link|no such file|loop)/i);
    }));

  test(
    "a daemon that is killed at any point of a build: nothing is left after the next start, and the next build is as if nothing had been",
    { timeout: longMs },
    () =>
      withDaemon(async (daemon, wherry) => {
        const cache = join(work, "killed-cache");
        const dockerfile = (marker: string) =>
          `FROM busybox AS one\nCOPY big /big\nRUN echo ${marker}; sha256sum /big >/sum; sleep 0.3\nFROM busybox\nWORKDIR /w\nCOPY --from=one /big /sum ./\nRUN echo last ${marker}; mkdir d; cp big d/again; sleep 0.3\n`;
        const folder = context({ Dockerfile: dockerfile("first"), big: "0123456789abcdef".repeat(1024 * 1024) });
        const args = [
          "build",
          "--network",
          "none",
          "--progress",
          "plain",
          "--build-arg",
          "SOURCE_DATE_EPOCH=1700000000",
          "--cache-to",
          `type=local,dest=${cache},mode=max`,
        ];
        const begin = async () => {
          await wherry("builder", "prune", "-af");
          return spawn(wherryPath, [...args, folder], { env: cleanEnv({ WHERRY_HOST: daemon.host }), stdio: ["ignore", "ignore", "pipe"] });
        };
        for (const point of [/^#\d+ \[/m, /COPY big/, / first$/m, /COPY --from/, / last first$/m, /exporting cache/]) {
          const child = await begin();
          let text = "";
          child.stderr.on("data", (data: Buffer) => (text += data.toString()));
          const ended = new Promise((resolve) => child.once("close", resolve));
          await eventually(
            () => text,
            (printed) => point.test(printed),
            30_000,
          );
          await daemon.kill("SIGKILL");
          await ended;
          await daemon.start();
          await eventually(
            async () => (await wherry("ps", "-aq")).stdout,
            (printed) => printed === "",
          );
          for (const place of ["build/work", "build/scratch"]) expect(readdirSync(join(daemon.dataRoot, place))).toEqual([]);
          expect(readdirSync(join(daemon.execRoot, "build"))).toEqual([]);
          // What was a container's goes after it.
          await eventually(
            () => wherry("system", "check"),
            ({ code }) => code === 0,
          ).catch((error: unknown) => {
            throw new Error(`killed at ${point}: ${String(error)}\n${daemon.log().split("\n").slice(-30).join("\n")}`);
          });
        }
        const [once, again] = [await wherry(...args, "-q", folder), await wherry(...args, "-q", "--no-cache", folder)];
        expect(once).toMatchObject({ code: 0, stdout: expect.stringMatching(/^sha256:[0-9a-f]{64}\n$/) as string });
        expect(again.stdout).toBe(once.stdout);
        // The directory that the writing of was cut off is whole now.
        await wherry("builder", "prune", "-af");
        await wherry("image", "prune", "-f");
        const imported = await wherry(...args, "-q", "--cache-from", `type=local,src=${cache}`, folder);
        expect(imported.stdout).toBe(once.stdout);
        // One that a killed daemon has asked for and not taken ends with its helper.
        await eventually(
          async () => (await run(["pgrep", "-f", `^wherry-tree ${daemon.base}/.*apply-`])).stdout,
          (pids) => pids === "",
        );
      }),
  );

  test("a full disk: the step fails and says so, nothing that was there is lost, and with room again it builds", { timeout: longMs }, async (test) => {
    const small = loopFilesystem("small", work);
    if (small === undefined) return test.skip("this kernel mounts no ext4 of a file");
    try {
      await withDaemon(
        async (daemon, wherry) => {
          const kept = context({ Dockerfile: "FROM busybox\nRUN echo kept >/kept\n" });
          await build(wherry, kept, "-t", "kept");
          const full = /no space left on device/i;
          const cases: Readonly<Record<string, string>> = {
            "by a command": "FROM busybox\nRUN dd if=/dev/zero of=/fill bs=1M count=400\n",
            "by COPY": "FROM busybox\nCOPY big /big\n",
            "by the layer of a command": "FROM busybox\nRUN dd if=/dev/urandom of=/fill bs=1M count=100\nRUN cp /fill /again; cp /fill /more\n",
          };
          const folder = context({ big: "" });
          // Of no zeros: they would be holes.
          writeFileSync(join(folder, "big"), Buffer.alloc(300 * 1024 ** 2, "full"));
          for (const [what, Dockerfile] of Object.entries(cases)) {
            writeFileSync(join(folder, "Dockerfile"), Dockerfile);
            const failed = await wherry("build", "--network", "none", "--progress", "plain", "-t", "too-large", folder);
            expect([what, failed.code === 0]).toEqual([what, false]);
            expect([what, failed.stderr]).toEqual([what, expect.stringMatching(full)]);
            expect((await wherry("image", "inspect", "too-large")).code).not.toBe(0);
            expect(await wherry("run", "--rm", "--network", "none", "kept", "cat", "/kept")).toMatchObject({ code: 0, stdout: "kept\n" });
            expect((await wherry("ps", "-aq")).stdout).toBe("");
            await wherry("builder", "prune", "-af");
          }
          expect(readdirSync(join(daemon.dataRoot, "build/work"))).toEqual([]);
          // What was pruned is deleted behind the answer.
          await expect.poll(() => roomIn(small.directory)).toBeGreaterThan(100 * 1024 ** 2);
          await build(wherry, context({ Dockerfile: "FROM kept\nRUN dd if=/dev/urandom of=/some bs=1M count=20\n" }), "-t", "fits");
          await daemon.kill("SIGTERM");
          await daemon.start();
          expect(await wherry("run", "--rm", "--network", "none", "fits", "cat", "/kept")).toMatchObject({ code: 0, stdout: "kept\n" });
          expect(await wherry("system", "check")).toMatchObject({ code: 0 });
        },
        join(small.directory, "engine"),
      );
    } finally {
      small.remove();
    }
  });

  const buildx = cliPlugin("docker-buildx");
  const ways: Readonly<Record<string, readonly string[] | undefined>> = {
    wherry: [wherryPath, "build", "--progress=plain"],
    "docker's classic builder": hasProgram("docker") ? ["env", "DOCKER_BUILDKIT=0", "docker", "build", "--force-rm"] : undefined,
    buildx: buildx === undefined ? undefined : [buildx, "build", "--progress=plain"],
  };
  test.each(Object.entries(ways))("secrets and build arguments are in no layer, history, config, log or file of the engine: %s", async (way, command) => {
    if (command === undefined) return void console.warn(`build-hard: no client for ${way}`);
    await withDaemon(async (daemon, wherry) => {
      const [secret, argument] = ["hunter2-of-the-secret", "hunter2-of-the-argument"];
      const withSecret = way !== "docker's classic builder";
      const folder = context({
        Dockerfile: [
          "FROM busybox AS first",
          "ARG TOKEN",
          withSecret
            ? '# a step with a secret\nRUN --mount=type=secret,id=s test "$(cat /run/secrets/s)" = hunter2-of-the-$(echo secret) && test -n "$TOKEN"'
            : 'RUN test -n "$TOKEN"',
          "RUN touch /made",
          "FROM busybox",
          "ARG TOKEN",
          'RUN test "${#TOKEN}" -gt 5',
          "COPY --from=first /made /",
          "",
        ].join("\n"),
      });
      const path = `${folder}.secret`;
      writeFileSync(path, secret);
      const environment = { WHERRY_HOST: daemon.host, DOCKER_HOST: daemon.host, DOCKER_CONFIG: join(work, "no-config"), BUILDX_NO_DEFAULT_ATTESTATIONS: "1" };
      const args = ["--network=none", "--build-arg", `TOKEN=${argument}`, ...(withSecret ? ["--secret", `id=s,src=${path}`] : []), "-t", "told", folder];
      const built = await run([...command, ...args], { env: environment });
      expect(built).toMatchObject({ code: 0 });
      // Again, from the cache; and once more with a step that fails.
      const told = [
        built,
        await run([...command, ...args], { env: environment }),
        await wherry("history", "--no-trunc", "told"),
        await wherry("inspect", "told"),
      ];
      writeFileSync(join(folder, "Dockerfile"), "FROM busybox\nARG TOKEN\nRUN test -z $TOKEN\n");
      told.push(await run([...command, ...args], { env: environment }));
      expect(told.at(-1)!.code).not.toBe(0);
      const saved = `${folder}.tar`;
      await wherry("save", "-o", saved, "told");
      for (const hidden of [secret, argument]) {
        for (const { stdout, stderr } of told) expect(stdout + stderr).not.toContain(hidden);
        // -s: files may go while it reads; the record of a step's container is in the trash a moment longer. The base has the data root, the exec root and the log.
        await expect.poll(async () => (await run(["grep", "-rlsaF", hidden, daemon.base, saved])).stdout).toBe("");
      }
    });
  });
});
