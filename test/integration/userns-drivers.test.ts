/**
 * User namespaces on every kind of storage: by mounts that map owners, and where those cannot be had by a private copy of the image's files. The container sees its own ids, the host those that they
 * mean, and whoever reads the container's files counts as it does.
 */
import { execFileSync } from "node:child_process";
import { chownSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { EngineOptions } from "#engine/mod.ts";
import { PRIVATE_RANGE } from "#engine/id-ranges.ts";
import { openEngine } from "#engine/open-engine.ts";
import { canOpenFuse, findProgram } from "#linux/find-program.ts";
import { probeHost } from "#linux/probe-host.ts";
import { formatHeader, endBlocks } from "#unionfs/tar/writer.ts";
import { ownersIn } from "../fixtures.ts";
import { TestDaemon, wherryPath, whyNot } from "../compat/daemon.ts";
import { ok } from "../compat/run.ts";
import { TestEngine, until } from "./engine-setup.ts";

const facts = await probeHost();
const root = process.getuid?.() === 0 && facts.namespaces.includes("user");
const oldKernel = { idmappedMounts: false, overlay: { ...facts.overlay, layerFds: false } };
const auto = { UsernsMode: "auto" };
const sh = (script: string) => ["sh", "-c", script];

/** An archive of one file; the directory that it is in has to be made. */
async function* sent(): AsyncGenerator<Uint8Array> {
  yield formatHeader({ type: "file", name: "in/sent", uid: 21, gid: 22, linkname: "", mode: 0o644, size: 0, mtimeNs: 0n, major: 0, minor: 0, xattrs: [] });
  yield endBlocks();
}

interface Case {
  readonly name: string;
  readonly able: boolean;
  readonly options: (root: string) => Partial<EngineOptions>;
  /** What the host cannot, and what therefore has the host's ids on disk. */
  readonly copied?: { readonly why: string; readonly ownersOnDisk: "root" | "all" };
}

const cases: readonly Case[] = [
  { name: "overlay2", able: facts.overlay.layerFds, options: () => ({ storageDriver: "overlay2" }) },
  // Whether this kernel's overlay takes images by descriptor is not among the facts.
  { name: "erofs", able: facts.kernel.major > 6 || (facts.kernel.major === 6 && facts.kernel.minor >= 15), options: () => ({ storageDriver: "erofs" }) },
  { name: "vfs", able: facts.idmappedMounts, options: () => ({ storageDriver: "vfs" }) },
  ...["overlay2", "overlay", "erofs", "vfs"].map((storageDriver) => ({
    name: `${storageDriver} on a kernel without id-mapped mounts`,
    able: true,
    options: () => ({ storageDriver, facts: oldKernel }),
    copied: { why: "needs ", ownersOnDisk: "all" as const },
  })),
  {
    name: "fuse-overlayfs",
    able: facts.idmappedMounts && (await canOpenFuse()) === undefined && (await findProgram("fuse-overlayfs")) !== undefined,
    options: () => ({ storageDriver: "fuse-overlayfs" }),
    copied: { why: "a FUSE root cannot be used with a user namespace", ownersOnDisk: "root" },
  },
  {
    name: "vfs on a filesystem without id-mapped mounts",
    able: facts.mountSetattr,
    // overlayfs as the one below has none.
    options: (at) => {
      for (const part of ["lower", "upper", "work", "merged"]) mkdirSync(join(at, part), { recursive: true });
      execFileSync("mount", ["-t", "overlay", "overlay", "-o", `lowerdir=${at}/lower,upperdir=${at}/upper,workdir=${at}/work`, join(at, "merged")]);
      return { storageDriver: "vfs", dataRoot: join(at, "merged/data") };
    },
    copied: { why: "mount_setattr was answered with EINVAL", ownersOnDisk: "all" },
  },
];

for (const { name, able, options, copied } of cases) {
  describe.skipIf(!root || !able)(name, () => {
    let t: TestEngine;
    let work: string;
    beforeAll(async () => {
      t = await TestEngine.open();
      work = mkdtempSync(join(tmpdir(), "wherry-copies-"));
      await t.engine.close();
      Object.assign(t.options, options(work));
      t.engine = await openEngine(t.options);
      await t.engine.images.bootstrap("busybox", () => undefined);
      const { id } = await t.run(
        sh("echo nine > /nine; chown 9:8 /nine; chmod 4751 /nine; ln /nine /home; mkdir -m 1777 /dir; chown 5:6 /dir; ln -s nine /link; chown -h 7:7 /link"),
      );
      await t.engine.containers.commit(id, { reference: "owned:1", comment: "", author: "", pause: false, changes: undefined });
    });
    afterAll(async () => {
      await t?.[Symbol.asyncDispose]();
      if (t?.options.dataRoot.startsWith(work)) execFileSync("umount", [join(work, "merged")]);
      rmSync(work, { recursive: true, force: true });
    });
    const first = (id: string) => t.engine.containers.get(id).idMappings?.uids[0]?.hostID ?? -1;
    const start = async (script: string, host = {}) => {
      const { id, warnings } = await t.engine.containers.create(t.request("owned:1", sh(`${script}; echo up; sleep 60`), {}, { ...auto, ...host }));
      await t.engine.containers.start(id);
      await until(async () => (await t.logs(id)).out.includes("up"));
      return { id, warnings, out: (await t.logs(id)).out };
    };
    const outside = (id: string, path: string) => {
      const { uid, gid } = statSync(`/proc/${t.engine.containers.get(id).state.pid}/root${path}`);
      return `${uid}:${gid}`;
    };

    test("the answer to create and info say when files are copied, and only then", async () => {
      const { warnings } = await t.engine.containers.create(t.request("owned:1", ["true"], {}, auto));
      const inInfo = (await t.engine.system.info()).warnings.filter((line) => line.includes("user namespace"));
      if (copied === undefined) expect([warnings, inInfo]).toEqual([[], []]);
      else {
        expect(warnings.join()).toContain("the container has a private copy of them");
        expect(warnings.join()).toContain(copied.why);
        expect(inInfo.join()).toContain("Containers with a user namespace get private copies of their images' files");
      }
      expect((await t.engine.containers.create(t.request("owned:1", ["true"]))).warnings).toEqual([]);
    });

    test("inside are the container's ids, outside the host's, and the layers keep theirs", async () => {
      const { id, out } = await start(
        "stat -c '%u:%g %a %h' /nine /dir /bin/sh; stat -c %u:%g /link /etc/passwd /etc/hosts; echo x >> /etc/hosts && echo y > /dir/new && cat /nine",
      );
      expect(t.engine.containers.get(id).ownersOnDisk).toBe(copied?.ownersOnDisk);
      const [nine, dir, shell, ...rest] = out.trim().split("\n");
      expect([nine, dir, shell?.split(" ")[0], ...rest]).toEqual(["9:8 4751 2", "5:6 1777 2", "0:0", "7:7", "0:0", "0:0", "nine", "up"]);
      expect(outside(id, "/nine")).toBe(`${first(id) + 9}:${first(id) + 8}`);
      expect(outside(id, "/dir/new")).toBe(`${first(id)}:${first(id)}`);
      const plain = await t.engine.containers.create(t.request("owned:1", ["sleep", "60"]));
      await t.engine.containers.start(plain.id);
      expect(outside(plain.id, "/nine")).toBe("9:8");
      expect(outside(plain.id, "/bin/sh")).toBe("0:0");
      await t.removeAll();
    });

    test("diff, cp, export and commit count as the container does, running and stopped, and after a restart of the engine", async () => {
      const { id } = await start("echo own > /own; chown 12:13 /own; rm /link; chown 3 /nine", { Binds: ["vol:/bin"] });
      const look = async (state: string) => {
        expect(await t.engine.containers.changes(id), state).toEqual(
          expect.arrayContaining([
            { kind: "delete", path: "/link" },
            { kind: "modify", path: "/nine" },
            { kind: "add", path: "/own" },
          ]),
        );
        // What nobody has touched is no change.
        expect(
          (await t.engine.containers.changes(id)).map(({ path }) => path),
          state,
        ).not.toContain("/dir");
        expect(await ownersIn((await t.engine.containers.readArchive(id, "/own")).tar), state).toEqual({ own: "12:13" });
        expect(await ownersIn((await t.engine.containers.readArchive(id, "/bin/sh")).tar), state).toEqual({ sh: "0:0" });
        expect(await ownersIn((await t.engine.containers.readArchive(id, "/etc/hosts")).tar), state).toEqual({ hosts: "0:0" });
        expect(await ownersIn(await t.engine.containers.exportTree(id)), state).toMatchObject({ own: "12:13", nine: "3:8", dir: "5:6", etc: "0:0" });
      };
      await look("running");
      await t.engine.containers.writeArchive(id, "/", sent(), { noOverwriteDirNonDir: false, copyUidGid: false });
      expect(outside(id, "/in/sent")).toBe(`${first(id) + 21}:${first(id) + 22}`);
      await t.engine.containers.kill(id, "SIGKILL");
      await t.engine.containers.wait(id, "not-running");
      await look("stopped");
      await t.reopen();
      await look("after a restart of the engine");
      await t.engine.containers.writeArchive(id, "/dir", sent(), { noOverwriteDirNonDir: false, copyUidGid: false });
      await t.engine.containers.start(id);
      expect((await t.exec(id, sh("stat -c %u:%g /own /in/sent /dir/in/sent"))).out).toBe("12:13\n21:22\n21:22\n");
      await t.engine.containers.commit(id, { reference: "again:1", comment: "", author: "", pause: false, changes: undefined });
      await t.removeAll();
      const { out } = await t.run(sh("stat -c %u:%g /own /nine /dir /in/sent; ls /link 2>&1 | grep -c No"), { Image: "again:1" });
      expect(out).toBe("12:13\n3:8\n5:6\n21:22\n1\n");
      const [whole = 0, base = 0] = await Promise.all(["again:1", "owned:1"].map(async (image) => (await t.engine.images.get(image)).size));
      expect(whole - base, "the layer has what has changed, no copy of the rest").toBeLessThan(10_000);
      await t.engine.images.remove("again:1", { force: true, prune: true });
      await t.engine.volumes.remove("vol", true);
    });

    test("volumes: what is copied up and what is written are the container's", async () => {
      const { id, out } = await start("stat -c %u:%g /dir /empty; touch /dir/mine /empty/mine; stat -c %u:%g /dir/mine /empty/mine", {
        Binds: ["filled:/dir", "bare:/empty"],
      });
      expect(out).toBe("5:6\n0:0\n0:0\n0:0\nup\n");
      expect(outside(id, "/empty/mine")).toBe(`${first(id)}:${first(id)}`);
      for (const path of ["/dir", "/empty"]) await t.engine.containers.writeArchive(id, path, sent(), { noOverwriteDirNonDir: false, copyUidGid: false });
      expect((await t.exec(id, sh("stat -c %u:%g /dir/in/sent /dir/in /empty/in/sent /empty/in"))).out).toBe("21:22\n0:0\n21:22\n0:0\n");
      await t.engine.containers.kill(id, "SIGKILL");
      await t.engine.containers.wait(id, "not-running");
      for (const path of ["/dir", "/empty", "/tmp"])
        await t.engine.containers.writeArchive(id, path, sent(), { noOverwriteDirNonDir: false, copyUidGid: false });
      expect(await ownersIn((await t.engine.containers.readArchive(id, "/empty/in")).tar)).toEqual({ in: "0:0", "in/sent": "21:22" });
      await t.removeAll();
      for (const name of ["filled", "bare"]) await t.engine.volumes.remove(name, true);
    });

    test.runIf(copied?.ownersOnDisk !== "all")("a bind with idmap: what is written belongs to the owner of the folder", async () => {
      const dir = join(work, "bind");
      mkdirSync(dir);
      chownSync(dir, 4321, 5432);
      const { id, out } = await start("stat -c %u:%g /b; touch /b/x; stat -c %u:%g /b/x", { Binds: [`${dir}:/b:idmap`] });
      expect(out).toBe("0:0\n0:0\nup\n");
      expect(statSync(join(dir, "x"))).toMatchObject({ uid: 4321, gid: 5432 });
      expect(await ownersIn((await t.engine.containers.readArchive(id, "/b/x")).tar)).toEqual({ x: "0:0" });
      await t.engine.containers.kill(id, "SIGKILL");
      await t.engine.containers.wait(id, "not-running");
      expect(await ownersIn((await t.engine.containers.readArchive(id, "/b/x")).tar)).toEqual({ x: "0:0" });
      await t.removeAll();
    });

    test.runIf(name === "erofs")("a chain of many layers, before and after it has become one image", async () => {
      let image = "owned:1";
      const paths = Array.from({ length: 9 }, (_, i) => `/layer-${i}`);
      for (const [i, path] of paths.entries()) {
        const { id } = await t.run(sh(`touch ${path}; chown ${i + 1}:${i + 2} ${path} /dir`), { Image: image });
        image = `long:${i}`;
        await t.engine.containers.commit(id, { reference: image, comment: "", author: "", pause: false, changes: undefined });
      }
      const expected = [...paths.map((_, i) => `${i + 1}:${i + 2}`), "9:10", "9:8"];
      const look = async () => (await t.run(sh(`stat -c %u:%g ${paths.join(" ")} /dir /nine`), { Image: image }, auto)).out.trim().split("\n");
      expect(await look()).toEqual(expected);
      await until(async () => (await t.engine.containers.explain(t.request(image, ["true"], {}, auto), "text")).includes("merged.erofs"));
      expect(await look()).toEqual(expected);
      await t.removeAll();
    });

    test.runIf(copied !== undefined)("an id that the container's namespace does not have is refused, and nothing is left", async () => {
      const before = await t.engine.containers.list({ all: true, limit: undefined, filters: {} });
      await expect(t.engine.containers.create(t.request("owned:1", ["true"], {}, { UsernsMode: "auto:size=8" }))).rejects.toThrow(
        /[ug]id [0-9]+ is not in the container's user namespace/,
      );
      expect(await t.engine.containers.list({ all: true, limit: undefined, filters: {} })).toEqual(before);
    });
  });
}

const fuse = whyNot() ?? (cases.find(({ name }) => name === "fuse-overlayfs")?.able === true ? undefined : "fuse-overlayfs cannot be used");

describe.skipIf(fuse !== undefined)(`a daemon with a remap, on private copies${fuse === undefined ? "" : ` (skipped: ${fuse})`}`, () => {
  test("builds: each step has a copy, and its layer what it has changed, with the container's ids", async () => {
    const daemon = new TestDaemon({ checked: false, args: ["--userns-remap", "default", "--storage-driver", "fuse-overlayfs"] });
    await daemon.start();
    const context = mkdtempSync(join(tmpdir(), "wherry-remap-"));
    try {
      const wherry = (...args: string[]) => ok([wherryPath, ...args], { env: { WHERRY_HOST: `unix://${daemon.directSocket}` } });
      await wherry("image", "bootstrap", "-q", "busybox");
      writeFileSync(
        join(context, "Dockerfile"),
        "FROM busybox\nRUN echo a > /a; chown 7:8 /a; mkdir -p /d/e; rm /etc/group\nRUN stat -c %u:%g /a /bin/sh > /seen; tr -s ' ' < /proc/self/uid_map >> /seen\n",
      );
      await wherry("build", "-q", "-t", "built:1", context);
      const look = (...flags: string[]) =>
        wherry("run", "--rm", "--network", "none", ...flags, "built:1", "sh", "-c", "cat /seen; stat -c %u:%g /a /d/e; ls /etc/group 2>&1 | grep -c No");
      const expected = `7:8\n0:0\n 0 ${PRIVATE_RANGE.hostID} 65536\n7:8\n0:0\n1`;
      expect(await look()).toBe(expected);
      expect(await look("--userns", "host")).toBe(expected);
      const sizes = (await wherry("history", "--human=false", "--format", "{{.Size}}", "built:1")).split("\n").map(Number);
      expect(sizes.length).toBe(3);
      for (const size of sizes.slice(0, 2)) expect(size).toBeLessThan(1000);
    } finally {
      await daemon.stop();
      rmSync(context, { recursive: true, force: true });
    }
  });
});
