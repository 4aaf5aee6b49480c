/** overlay2 on this kernel, whatever its defaults are and however it takes layers: in the VM, with the oldest one that the engine runs on, and with every default turned on. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { digestOf } from "#core/digest.ts";
import { findProgram } from "#linux/find-program.ts";
import { chunked, tar } from "#unionfs/testing/tar-builder.ts";
import { TestEngine } from "./engine-setup.ts";

const busybox = await findProgram("busybox");
const getfattr = await findProgram("getfattr");
const depth = 120;

/** An archive as `docker save` writes it. */
function archiveOf(name: string, layers: readonly Buffer[]): Buffer {
  const config = JSON.stringify({
    architecture: process.arch === "arm64" ? "arm64" : "amd64",
    os: "linux",
    config: {},
    rootfs: { type: "layers", diff_ids: layers.map(digestOf) },
  });
  const manifest = JSON.stringify([{ Config: "config.json", RepoTags: [name], Layers: layers.map((_, i) => `${i}.tar`) }]);
  return tar({ name: "manifest.json", data: manifest }, { name: "config.json", data: config }, ...layers.map((data, i) => ({ name: `${i}.tar`, data })));
}

describe.skipIf(process.getuid?.() !== 0 || busybox === undefined)("overlay2 on this kernel", () => {
  let t: TestEngine;
  const restore: (() => void)[] = [];

  beforeAll(async () => {
    // Whoever mounts without saying otherwise gets these: only a machine of the test's own may be told so.
    if (process.env["WHERRY_IN_VM"] !== undefined)
      for (const parameter of ["index", "redirect_dir", "metacopy"]) {
        const path = `/sys/module/overlay/parameters/${parameter}`;
        const before = readFileSync(path, "utf8");
        writeFileSync(path, "Y");
        restore.push(() => writeFileSync(path, before));
      }
    t = await TestEngine.open("overlay2");
    const programs = ["sh", "ls", "wc", "cat", "mv", "chmod", "rm", "grep"].map((name) => ({ name: `bin/${name}`, typeflag: "2", linkname: "busybox" }));
    const base = tar(
      { name: "bin/busybox", data: readFileSync(busybox!), mode: 0o755 },
      ...programs,
      { name: "top", data: "0" },
      { name: "dir/in", data: "x".repeat(70_000) },
    );
    const more = Array.from({ length: depth - 1 }, (_, i) => tar({ name: `d/${i + 1}`, data: String(i + 1) }, { name: "top", data: String(i + 1) }));
    await t.engine.images.load(chunked(archiveOf("deep:latest", [base, ...more])), () => undefined);
  });
  afterAll(async () => {
    await t?.[Symbol.asyncDispose]();
    for (const step of restore.reverse()) step();
  });

  test(`a container on ${depth} layers`, async () => {
    const { id } = await t.engine.containers.create(
      t.request("deep", ["sh", "-c", "cat /top; echo; ls /d | wc -l; rm /d/7; ls /d | wc -l; grep -c . /proc/self/mountinfo >/dev/null"]),
    );
    const ended = t.engine.containers.wait(id, "next-exit");
    await t.engine.containers.start(id);
    expect([(await ended).exitCode, await t.logs(id)]).toEqual([0, { out: `${depth - 1}\n${depth - 1}\n${depth - 2}\n`, err: "" }]);
    expect((await t.engine.containers.changes(id)).filter(({ path }) => path.startsWith("/d"))).toEqual([
      { kind: "modify", path: "/d" },
      { kind: "delete", path: "/d/7" },
    ]);
  });

  test("an upper directory says by itself what has changed, as info tells", async () => {
    const info = await t.engine.system.info();
    expect(info.driverStatus).toEqual(
      expect.arrayContaining([
        ["Supports d_type", "true"],
        ["Using metacopy", "false"],
        ["Native Overlay Diff", "true"],
      ]),
    );
    const { id } = await t.engine.containers.create(t.request("deep", ["sh", "-c", "chmod 600 /dir/in && mv /d /moved && ls /moved | wc -l"]));
    const ended = t.engine.containers.wait(id, "next-exit");
    await t.engine.containers.start(id);
    expect([(await ended).exitCode, (await t.logs(id)).out]).toEqual([0, `${depth - 1}\n`]);
    const upper = join(t.root, "data/overlay2", id, "diff");
    expect(existsSync(upper)).toBe(true);
    // With metacopy it would have no content, with redirect_dir the directory would be empty and lead elsewhere.
    expect(statSync(join(upper, "dir/in")).blocks * 512).toBeGreaterThanOrEqual(70_000);
    expect(statSync(join(upper, "moved/7")).size).toBe(1);
    if (getfattr !== undefined)
      expect(execFileSync(getfattr, ["-R", "-h", "-d", "-m", "trusted.overlay", "."], { cwd: upper, encoding: "utf8" })).not.toMatch(/metacopy|redirect/);
  });
});
