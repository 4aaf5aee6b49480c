/** `cp` on the real kernel: what is seen and written of a container's files, and what a hostile container cannot make us touch. */
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { TarReader } from "#unionfs/tar/reader.ts";
import { tar as archive, type Member } from "../../src/unionfs/testing/tar-builder.ts";
import { streamOf } from "../fixtures.ts";
import { TestEngine } from "./engine-setup.ts";

const plain = { noOverwriteDirNonDir: false, copyUidGid: false };

describe.skipIf(process.getuid?.() !== 0)("files of a container", () => {
  let t: TestEngine;
  beforeAll(async () => {
    t = await TestEngine.open();
  });
  afterEach(async () => {
    await t.removeAll();
  });
  afterAll(async () => {
    await t[Symbol.asyncDispose]();
  });

  interface Read {
    readonly type: string;
    readonly uid: number;
    readonly data: string;
    readonly linkname: string;
  }

  /** Name → what the archive of a path holds. */
  async function get(id: string, path: string): Promise<Map<string, Read>> {
    const { tar } = await t.engine.containers.readArchive(id, path);
    const reader = new TarReader(tar);
    const found = new Map<string, Read>();
    for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) {
      const data = entry.type === "file" ? (await reader.readAll(1 << 22)).toString() : "";
      found.set(entry.name, { type: entry.type, uid: entry.uid, data, linkname: entry.linkname });
    }
    return found;
  }
  const put = (id: string, path: string, members: readonly Member[], options = plain) =>
    t.engine.containers.writeArchive(id, path, streamOf(archive(...members)), options);

  /** A directory of the host that no container may reach. */
  function secret(name: string): string {
    const path = join(t.root, name);
    mkdirSync(path);
    writeFileSync(join(path, "flag"), "the host's");
    return path;
  }
  const untouched = (path: string) => {
    expect(readdirSync(path)).toEqual(["flag"]);
    expect(readFileSync(join(path, "flag"), "utf8")).toBe("the host's");
  };

  for (const running of [true, false]) {
    describe(running ? "running" : "stopped", () => {
      const make = (script: string, host = {}) =>
        running
          ? t.start(["sh", "-c", `${script}; touch /ready; sleep 60`], {}, host)
          : t.run(["sh", "-c", `${script}; touch /ready`], {}, host).then(({ id }) => id);
      const ready = async (id: string) => {
        for (let n = 0; n < 100; n++) {
          if ((await t.engine.containers.statPath(id, "/ready").catch(() => undefined)) !== undefined) return id;
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
        throw new Error("the container does not get ready");
      };

      test("a directory comes out as it is, under its own name", async () => {
        const id = await ready(await make("mkdir -p /d/sub; echo one > /d/f; ln -s f /d/link; ln /d/f /d/sub/same; chown 7 /d/f"));
        const found = await get(id, "/d");
        expect([...found.keys()]).toEqual(["d/", "d/f", "d/link", "d/sub/", "d/sub/same"]);
        expect(found.get("d/f")).toEqual({ type: "file", uid: 7, data: "one\n", linkname: "" });
        expect(found.get("d/link")).toMatchObject({ type: "symlink", linkname: "f" });
        expect(found.get("d/sub/same")).toMatchObject({ type: "link", linkname: "d/f" });
        expect(await t.engine.containers.statPath(id, "/d/link")).toMatchObject({ name: "link", type: "symlink", linkTarget: "/d/f" });
        await expect(get(id, "/nosuch")).rejects.toThrow(`Could not find the file /nosuch in container ${id}`);
      });

      test("what goes in is there, with owner, mode and time", async () => {
        const id = await ready(await make("mkdir /d; ln -s d /link"));
        await put(id, "/link", [
          { name: "new/deep/f", data: "hello", uid: 12, gid: 13, mode: 0o4750, mtime: 1_000_000_000 },
          { name: "new/ln", typeflag: "2", linkname: "deep/f" },
        ]);
        expect((await get(id, "/d/new")).get("new/deep/f")).toMatchObject({ uid: 12, data: "hello" });
        expect(await t.engine.containers.statPath(id, "/d/new/deep/f")).toMatchObject({ mode: 0o4750, mtimeNs: 1_000_000_000n * 1_000_000_000n });
        await expect(put(id, "/ready", [])).rejects.toThrow("extraction point is not a directory");
        await expect(put(id, "/d", [{ name: "../x", data: "" }])).rejects.toThrow('"../x" is outside of "/d"');
      });

      test("volumes and binds belong to it; read-only ones are left alone", async () => {
        const bind = join(t.root, `bind-${running}`);
        mkdirSync(bind);
        writeFileSync(join(bind, "f"), "bound");
        const binds = { Binds: [`${bind}:/data/bind`, `${bind}:/ro:ro`, `vol-${running}:/data/vol`] };
        const id = await ready(await make("echo v > /data/vol/f; ln -s /ro /toro", binds));
        const found = await get(id, "/data");
        expect(found.get("data/bind/f")).toMatchObject({ data: "bound" });
        expect(found.get("data/vol/f")).toMatchObject({ data: "v\n" });
        await put(id, "/data/bind", [{ name: "g", data: "in" }]);
        expect(readFileSync(join(bind, "g"), "utf8")).toBe("in");
        await expect(put(id, "/ro", [{ name: "h", data: "" }])).rejects.toThrow("mounted volume is marked read-only");
        await expect(put(id, "/toro", [{ name: "h", data: "" }])).rejects.toThrow(/read-only file system/i);
        expect(readdirSync(bind).sort()).toEqual(["f", "g"]);
        expect((await get(id, "/etc/hosts")).get("hosts")?.data).toContain("localhost");
      });

      test("links to the host's paths lead nowhere (CVE-2018-15664)", async () => {
        const host = secret(`secret-${running}`);
        const id = await ready(await make(`mkdir /d; ln -s ${host} /d/abs; ln -s ../../../../../../../../../..${host} /d/up; ln -s /d/abs/flag /d/flag`));
        for (const path of ["/d/abs/", "/d/abs/flag", "/d/up/.", "/d/up/flag", "/d/flag/."]) {
          await expect(get(id, path)).rejects.toThrow("Could not find");
          await expect(put(id, path, [{ name: "flag", data: "owned" }])).rejects.toThrow("Could not find");
        }
        await expect(put(id, "/", [{ name: "d/abs/flag", data: "owned" }])).rejects.toThrow();
        await expect(
          put(id, "/", [
            { name: "l", typeflag: "2", linkname: host },
            { name: "l/flag", data: "owned" },
          ]),
        ).rejects.toThrow();
        untouched(host);
      });
    });
  }

  test("a component swapped for a link while we copy: nothing outside is read or written", async () => {
    const host = secret("swap");
    // The engine's directory exists in the container too, so that the link leads somewhere there.
    const id = await t.start([
      "sh",
      "-c",
      `mkdir -p ${host} /d/x /d/real; echo inside > ${host}/flag; echo real > /d/x/flag; ln -s ${host} /d/l; while :; do mv /d/x /d/r; mv -T /d/l /d/x; mv -T /d/x /d/l; mv /d/r /d/x; done`,
    ]);
    const seen = new Set<string>();
    for (let n = 0; n < 60; n++) {
      for (const path of ["/d/x/flag", "/d"]) {
        const found = await get(id, path).catch(() => new Map<string, Read>()); // gone at that moment
        for (const { data } of found.values()) if (data !== "") seen.add(data);
      }
      await put(id, "/d/x", [{ name: "new", data: "from the host" }]).catch(() => undefined); // may meet the moment between
      await put(id, "/", [{ name: "d/x/other", data: "from the host", mode: 0o777 }]).catch(() => undefined);
    }
    seen.delete("from the host");
    expect([...seen].filter((text) => text !== "real\n" && text !== "inside\n")).toEqual([]);
    expect(seen.size).toBeGreaterThan(0);
    untouched(host);
  });

  test("a link to a process's root leads nowhere, even where the container sees the host's processes", async () => {
    const host = secret("magic");
    const id = await t.start(
      ["sh", "-c", `mkdir /d; ln -s /proc/${process.pid}/root${host} /d/magic; ln -s /proc/${process.pid}/cwd /d/cwd; sleep 60`],
      {},
      { PidMode: "host" },
    );
    for (const path of ["/d/magic/", "/d/magic/flag", "/d/cwd/package.json", `/proc/${process.pid}/root/etc/passwd`, "/proc/1/environ"])
      await expect(get(id, path)).rejects.toThrow();
    await expect(put(id, "/d/magic", [{ name: "flag", data: "owned" }])).rejects.toThrow();
    await expect(put(id, "/", [{ name: "d/magic/flag", data: "owned" }])).rejects.toThrow();
    await expect(put(id, "/proc/sys/kernel", [{ name: "domainname", data: "owned" }])).rejects.toThrow();
    untouched(host);
    // The kernel's own filesystems look empty.
    expect([...(await get(id, "/proc")).keys()]).toEqual(["proc/"]);
  });

  test("what is mounted on is not unlinked", async () => {
    const id = await t.start(["sleep", "60"]);
    await expect(put(id, "/etc", [{ name: "hosts", data: "gone" }])).rejects.toThrow("device or resource busy");
    expect((await t.exec(id, ["cat", "/etc/hosts"])).out).toContain("localhost");
  });

  test("directories and files are not exchanged when that is asked for", async () => {
    const id = await t.create(["true"]);
    await put(id, "/", [
      { name: "f", data: "" },
      { name: "dir/x", data: "" },
    ]);
    const kept = { ...plain, noOverwriteDirNonDir: true };
    await expect(put(id, "/", [{ name: "f", typeflag: "5" }], kept)).rejects.toThrow('cannot overwrite non-directory "/f" with directory "/"');
    await expect(put(id, "/", [{ name: "dir", data: "" }], kept)).rejects.toThrow('cannot overwrite directory "/dir" with non-directory "/"');
    await put(id, "/", [{ name: "dir", data: "now a file" }]);
    expect((await get(id, "/dir")).get("dir")).toMatchObject({ data: "now a file" });
  });

  test("copyUIDGID gives files to the container's user, a read-only root takes none", async () => {
    const id = await t.create(["true"], { User: "www-data" });
    await put(id, "/tmp", [{ name: "f", data: "", uid: 5 }], { ...plain, copyUidGid: true });
    expect((await get(id, "/tmp/f")).get("f")).toMatchObject({ uid: 33 });
    const readonly = await t.create(["true"], {}, { ReadonlyRootfs: true });
    await expect(put(readonly, "/tmp", [{ name: "f", data: "" }])).rejects.toThrow("container rootfs is marked read-only");
  });

  test("in a user namespace owners are the container's", async () => {
    const id = await t.start(["sh", "-c", "echo x > /f; chown 9 /f; sleep 60"], {}, { UsernsMode: "private" });
    await put(id, "/", [{ name: "g", data: "", uid: 21 }]);
    expect((await t.exec(id, ["stat", "-c", "%u", "/f", "/g"])).out).toBe("9\n21\n");
    expect((await get(id, "/f")).get("f")).toMatchObject({ uid: 9 });
    await t.engine.containers.kill(id, "KILL");
    await t.engine.containers.wait(id, "not-running");
    expect((await get(id, "/g")).get("g")).toMatchObject({ uid: 21 });
  });

  test("a reader that goes away lets a stopped container start", async () => {
    const { id } = await t.run(["true"]);
    const { tar } = await t.engine.containers.readArchive(id, "/bin");
    const iterator = tar[Symbol.asyncIterator]();
    await iterator.next();
    const started = t.engine.containers.start(id);
    await iterator.return?.();
    await started;
    // One that never began to read.
    await t.engine.containers.wait(id, "not-running");
    const unread = await t.engine.containers.readArchive(id, "/bin");
    await unread.tar[Symbol.asyncIterator]().return?.();
    await t.engine.containers.start(id);
  });

  test("files put in before the start are there, also when nothing of it is to last", async () => {
    const id = await t.create(["cat", "/early"], {}, { AutoRemove: true });
    await put(id, "/", [{ name: "early", data: "in time" }]);
    expect((await get(id, "/early")).get("early")).toMatchObject({ data: "in time" });
    const ended = t.engine.containers.wait(id, "removed");
    await t.engine.containers.start(id);
    expect((await ended).exitCode).toBe(0);
  });

  test("a container that ends meanwhile is looked at as a stopped one", async () => {
    for (let n = 0; n < 5; n++) {
      const id = await t.start(["true"]);
      expect((await get(id, "/bin/busybox")).size).toBe(1);
    }
  });

  test("a container on a directory of the host", async () => {
    const { id: first } = await t.run(["true"]);
    const directory = join(t.root, "rootfs");
    mkdirSync(join(directory, "bin"), { recursive: true });
    writeFileSync(join(directory, "bin/busybox"), (await t.engine.containers.statPath(first, "/bin/busybox")).name);
    const id = (await t.engine.containers.create(t.request("", ["/bin/busybox"], {}, { WherryRootfs: directory }))).id;
    expect((await get(id, "/bin")).get("bin/busybox")).toMatchObject({ data: "busybox" });
    await put(id, "/bin", [{ name: "more", data: "x" }]);
    expect(readdirSync(join(directory, "bin"))).toEqual(["busybox", "more"]);
  });

  test("an archive that is none, or not all of one", async () => {
    const id = await t.create(["true"]);
    await expect(t.engine.containers.writeArchive(id, "/", streamOf(Buffer.alloc(2048, 65)), plain)).rejects.toThrow();
    await put(id, "/", []);
    const cut = archive({ name: "f", data: "x".repeat(3000) }).subarray(0, 1500);
    await expect(t.engine.containers.writeArchive(id, "/", streamOf(cut), plain)).rejects.toThrow("truncated");
  });

  test("the host's own tree is not seen through the mount of a stopped container", async () => {
    const bind = join(t.root, "linked");
    mkdirSync(bind);
    symlinkSync(t.root, join(bind, "out"));
    const id = await t.create(["true"], {}, { Binds: [`${bind}:/b`] });
    await expect(get(id, "/b/out/.")).rejects.toThrow("Could not find");
    expect((await get(id, "/b")).get("b/out")).toMatchObject({ type: "symlink" });
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(join(t.root, "run/empty"));
  });
});
