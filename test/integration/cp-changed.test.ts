/** Files that somebody changes while `cp`, `export` and `volume export` read them: the archive is whole, and whoever asked for it is told. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, truncateSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { archiveNotes } from "#api/types/archive-notes.ts";
import { TarReader } from "#unionfs/tar/reader.ts";
import { TestDaemon, wherryPath, whyNot } from "../compat/daemon.ts";
import { cleanEnv, ok, run } from "../compat/run.ts";

const reason = whyNot();
const cliPath = join(dirname(dirname(wherryPath)), "cli.cjs");
const MiB = 1 << 20;

describe.skipIf(reason !== undefined)(`archives of files that change${reason === undefined ? "" : ` (skipped: ${reason})`}`, () => {
  let daemon: TestDaemon;
  let work: string;
  let volume: string;
  const env = () => ({ WHERRY_HOST: `unix://${daemon.directSocket}` });
  const wherry = (...args: string[]) => ok([wherryPath, ...args], { env: env() });
  beforeAll(async () => {
    daemon = new TestDaemon({ checked: false });
    await daemon.start();
    work = mkdtempSync(join(tmpdir(), "wherry-cp-"));
    await wherry("image", "bootstrap", "-q", "busybox");
    await wherry("run", "-d", "--name", "box", "--network", "none", "-v", "vol:/v", "busybox", "sleep", "600");
    volume = await wherry("volume", "inspect", "-f", "{{.Mountpoint}}", "vol");
  });
  afterAll(async () => {
    await run([wherryPath, "rm", "-f", "-v", "box"], { env: env() });
    await daemon?.stop();
    rmSync(work, { recursive: true, force: true });
  });

  /** So much that no buffer on the way holds all of it: who reads a little of it knows that the end has not been read yet. */
  const bytes = 96 * MiB;
  const fresh = () => wherry("exec", "box", "sh", "-c", `rm -f /big /v/big; truncate -s ${bytes} /big /v/big`);
  const change = (path: string, how: "shrinks" | "grows") =>
    wherry("exec", "box", "sh", "-c", how === "shrinks" ? `truncate -s ${MiB} ${path}` : `truncate -s ${bytes + MiB} ${path}`);
  const said = (name: string, how: "shrinks" | "grows") =>
    how === "shrinks"
      ? new RegExp(`"${name}" has shrunk by \\d+ bytes while it was read: it is padded with zeros`)
      : new RegExp(`"${name}" has grown while it was read: it is cut to the ${bytes} bytes that it had`);

  /** Waits for the first bytes, changes the file, and takes the rest. */
  async function collect(
    child: ChildProcess,
    changeNow: () => Promise<unknown>,
  ): Promise<{ readonly out: Buffer; readonly err: string; readonly code: number }> {
    const exit = once(child, "exit");
    let err = "";
    child.stderr!.on("data", (chunk: Buffer) => (err += chunk.toString()));
    await once(child.stdout!, "readable");
    await changeNow();
    const chunks: Buffer[] = [];
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) chunks.push(chunk);
    const [code] = (await exit) as [number];
    return { out: Buffer.concat(chunks), err, code };
  }

  async function sizes(tar: Buffer): Promise<Record<string, number>> {
    const reader = new TarReader(
      (async function* () {
        yield tar;
      })(),
    );
    const found: Record<string, number> = {};
    for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) found[entry.name] = entry.size;
    return found;
  }

  const callers: Readonly<Record<string, readonly string[]>> = { "through the daemon's own door": [wherryPath], "over HTTP": [process.execPath, cliPath] };
  for (const [how, caller] of Object.entries(callers))
    describe(how, () => {
      const start = (...args: string[]) => spawn(caller[0]!, [...caller.slice(1), ...args], { env: cleanEnv(env()), stdio: ["ignore", "pipe", "pipe"] });

      test.each([
        ["cp", ["cp", "box:/big", "-"], "/big", "big"],
        ["export", ["export", "box"], "/big", "big"],
        ["volume export", ["volume", "export", "vol"], "/v/big", "./big"],
      ])("%s tells of a file that shrinks and of one that grows, and the archive is whole", async (_what, command, path, name) => {
        for (const kind of ["shrinks", "grows"] as const) {
          await fresh();
          const { out, err, code } = await collect(start(...command), () => change(path, kind));
          expect(code).toBe(0);
          expect(err).toMatch(new RegExp(`^WARNING: ${said(name, kind).source}\n$`));
          expect((await sizes(out))[name]).toBe(bytes);
        }
      });

      test("cp of a file that stays says nothing", async () => {
        await fresh();
        const child = start("cp", "box:/big", join(work, "copy"));
        let err = "";
        child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
        const [code] = (await once(child, "exit")) as [number];
        expect([code, err]).toEqual([0, ""]);
        expect(readFileSync(join(work, "copy")).length).toBe(bytes);
        rmSync(join(work, "copy"));
      });
    });

  test("the API says it behind the archive, in a trailer; nothing is said of files that stay", async () => {
    const get = (meanwhile: () => Promise<unknown>) =>
      new Promise<{ trailers: Readonly<Record<string, string>>; length: number }>((resolve, reject) => {
        const req = request({ socketPath: daemon.directSocket, path: "/v1.44/containers/box/archive?path=/big" }, (response) => {
          let length = 0;
          response.once("readable", async () => {
            await meanwhile().catch(reject);
            response.on("data", (chunk: Buffer) => (length += chunk.length));
          });
          response.on("end", () => resolve({ trailers: response.trailers as Record<string, string>, length }));
          response.on("error", reject);
        });
        req.on("error", reject);
        req.end();
      });
    await fresh();
    const quiet = await get(async () => undefined);
    expect(archiveNotes(quiet.trailers)).toEqual([]);
    const told = await get(() => change("/big", "shrinks"));
    expect(archiveNotes(told.trailers)).toEqual([expect.stringMatching(said("big", "shrinks"))]);
    expect(told.length).toBe(quiet.length);
    // A volume's file, changed from outside.
    truncateSync(join(volume, "big"), 0);
    expect(daemon.log()).toMatch(said("big", "shrinks"));
  });
});
