/**
 * `cp` with the stock docker client and ours on a real daemon, beside dockerd 20.10 where it is installed: the same commands must leave the same files and say the same.
 */
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { tar } from "../../src/unionfs/testing/tar-builder.ts";
import { hasProgram, TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { Dockerd } from "./dockerd.ts";
import { busyboxArchive } from "./images.ts";
import { eventually, ok, run } from "./run.ts";

const reason = whyNot();
if (reason) console.warn(`cp: skipped: ${reason}`);

interface Side {
  readonly name: string;
  readonly command: readonly string[];
  readonly host: () => string;
  readonly missing: string | undefined;
}

/** Commands in order; what they leave is compared in the end. "@" is the container, ":ro" one with a read-only root. */
const steps: readonly (readonly string[])[] = [
  ["file", "@:/in/new"],
  ["file", "@:/in/"],
  ["dir", "@:/in/made"],
  ["dir", "@:/in"],
  ["dir/.", "@:/in/contents"],
  ["dir/.", "@:/in/dirlink"],
  ["link", "@:/in/link"],
  ["-L", "link", "@:/in/followed"],
  ["-a", "file", "@:/in/archived"],
  ["file", "@:/in/filelink"],
  ["-", "@:/in"],
  ["@:/out", "o1"],
  ["@:/out/.", "o2"],
  ["@:/out/f", "o3"],
  ["@:/out/f", "o1"],
  ["@:/out/link", "o4"],
  ["-L", "@:/out/link", "o5"],
  ["@:/out/sublink", "o6"],
  ["-L", "@:/out/sublink", "o7"],
  ["@:/out/sublink/.", "o8"],
  ["@:out/f", "o9"],
  ["@:/in", "all"],
  // What is refused.
  ["@:/nosuch", "."],
  ["file", "@:/nosuch/x"],
  ["file", "@:/nosuch/"],
  ["dir", "@:/out/f"],
  ["dir", "@:/out/link"],
  ["nosuch", "@:/"],
  ["file", "nobody:/"],
  ["nobody:/a", "."],
  ["@:/out", "file"],
  ["@:/out/f", "nodir/"],
  ["@:/out/f", "nodir/x"],
  ["file", ":ro:/in"],
  ["file/", "@:/"],
  ["@:/out/f", "@:/x"],
  ["a", "b"],
  ["-", "@:/out/f"],
  ["-", "@:/nosuch"],
  ["", "@:/"],
  ["@:/out", ""],
  ["file", "@:"],
];

const input = tar({ name: "streamed", data: "by stdin", uid: 3 }, { name: "new", data: "exchanged" });
const script =
  "mkdir -p /in/real /out/sub; echo out > /out/f; echo x > /out/sub/x; ln -s f /out/link; ln -s sub /out/sublink; ln -s real /in/dirlink; ln -s new /in/filelink; touch /ready; sleep 100";

/** Every file below a directory: kind, mode, content or target. */
function listing(directory: string, below = ""): string[] {
  return readdirSync(join(directory, below))
    .sort()
    .flatMap((name) => {
      const path = join(below, name);
      const info = lstatSync(join(directory, path));
      const mode = (info.mode & 0o7777).toString(8);
      if (info.isDirectory()) return [`${path}/ ${mode}`, ...listing(directory, path)];
      return [info.isSymbolicLink() ? `${path} -> ${readlinkSync(join(directory, path))}` : `${path} ${mode} ${readFileSync(join(directory, path), "utf8")}`];
    });
}

describe.skipIf(reason !== undefined)(`cp${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const work = mkdtempSync(join(tmpdir(), "wt-cp-"));
  const daemon = new TestDaemon();
  const dockerd = new Dockerd(work);
  const noDocker = hasProgram("docker") ? undefined : "no docker client";
  const sides: readonly Side[] = [
    {
      name: "docker at dockerd",
      command: ["docker"],
      host: () => dockerd.host,
      missing: Dockerd.missing,
    },
    { name: "docker here", command: ["docker"], host: () => daemon.host, missing: noDocker },
    { name: "wherry here", command: [wherryPath], host: () => daemon.host, missing: undefined },
  ];
  for (const { name, missing } of sides) if (missing !== undefined) console.warn(`cp: ${name}: skipped: ${missing}`);

  beforeAll(async () => {
    const archive = busyboxArchive(work);
    await daemon.start();
    await ok([wherryPath, "load", "-i", archive.path], { env: { WHERRY_HOST: daemon.host } });
    if (sides[0]?.missing !== undefined) return;
    await dockerd.start();
    await ok(["docker", "load", "-i", archive.path], { env: { DOCKER_HOST: dockerd.host } });
  }, 60_000);

  afterAll(async () => {
    await dockerd.stop();
    const left = await daemon.stop();
    rmSync(work, { recursive: true, force: true });
    expect(left).toEqual([]);
  }, 60_000);

  async function outcome(side: Side, running: boolean): Promise<string[]> {
    const directory = mkdtempSync(join(work, "files-"));
    mkdirSync(join(directory, "dir/sub"), { recursive: true });
    writeFileSync(join(directory, "file"), "file\n", { mode: 0o640 });
    writeFileSync(join(directory, "dir/f"), "in dir\n");
    symlinkSync("../file", join(directory, "dir/sub/up"));
    symlinkSync("file", join(directory, "link"));
    const env = { DOCKER_HOST: side.host() };
    const call = (args: readonly string[], stdin?: Uint8Array) =>
      run(["sh", "-c", 'cd "$0" && exec "$@"', directory, ...side.command, ...args], {
        env,
        timeoutMs: 20_000,
        ...(stdin === undefined ? {} : { input: stdin }),
      });
    const [container, readonly] = ["cp-one", "cp-two"];
    await call(["rm", "-f", container, readonly]);
    await ok([...side.command, "create", "--name", container, "--net", "none", "busybox", "sh", "-c", script], { env });
    await ok([...side.command, "create", "--name", readonly, "--net", "none", "--read-only", "busybox", "true"], { env });
    await ok([...side.command, "start", container], { env });
    await eventually(
      () => call(["exec", container, "ls", "/ready"]),
      ({ code }) => code === 0,
      10_000,
    );
    if (!running) await ok([...side.command, "kill", container], { env });
    const said: string[] = [];
    for (const step of steps) {
      const args = step.map((argument) => argument.replace(/^@/, container).replace(/^:ro/, readonly));
      const { code, stdout, stderr } = await call(["cp", ...args], input);
      const errors = stderr.replaceAll(directory, "HERE").replace(/^time=.*level=error.*\n/gm, "");
      said.push(
        `${step.join(" ")} = ${code} ${stdout}${errors.replace("pathcannot", "path cannot").replace("Error processing tar file(exit status 1): ", "")}`,
      );
    }
    const list = ["sh", "-c", `"$@" cp ${container}:/in/archived - | tar tv --numeric-owner | awk '{ print $1, $2, $3, $6 }'`, "sh", ...side.command];
    said.push(`to stdout: ${(await run(list, { env })).stdout}`);
    await call(["rm", "-f", container, readonly]);
    return [...said, ...listing(directory)];
  }

  test.each([
    ["running", true],
    ["stopped", false],
  ])(
    "every client, every daemon: the same (%s)",
    async (_name, running) => {
      const there = sides.filter(({ missing }) => missing === undefined);
      const results: string[][] = [];
      for (const side of there) results.push(await outcome(side, running));
      for (const [n, found] of results.entries()) expect(found, `${there[n]?.name} against ${there[0]?.name}`).toEqual(results[0]);
      // And it is not all the same because nothing works.
      expect(results[0]).toEqual(
        expect.arrayContaining([
          "file @:/in/new = 0 ",
          "@:/nosuch . = 1 Error response from daemon: Could not find the file /nosuch in container cp-one\n",
          "file @:/nosuch/ = 1 no such directory\n",
          "file :ro:/in = 1 Error response from daemon: container rootfs is marked read-only\n",
          "o1/f 644 out\n",
          "o4 -> f",
          "o5 644 out\n",
          "o8/x 644 x\n",
          "all/made/sub/up -> ../file",
          "all/streamed 644 by stdin",
          "all/followed 640 file\n",
          "to stdout: -rw-r----- 0/0 5 archived\n",
        ]),
      );
    },
    120_000,
  );
});
