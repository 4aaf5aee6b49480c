/** Volumes of filesystems, image mounts, and what is done with a volume's content, on real containers. */
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { TestEngine } from "./engine-setup.ts";

describe.skipIf(process.getuid?.() !== 0)("volumes", () => {
  let t: TestEngine;
  beforeAll(async () => {
    t = await TestEngine.open();
  });
  afterEach(async () => {
    await t.removeAll();
    for (const { Name } of t.engine.volumes.list({})) await t.engine.volumes.remove(Name, true);
    expect(mountsBelow()).toEqual([]);
  });
  afterAll(async () => {
    expect(t.warnings).toEqual([]);
    await t[Symbol.asyncDispose]();
  });

  const mountsBelow = () =>
    readFileSync("/proc/self/mountinfo", "utf8")
      .split("\n")
      .filter((line) => line.includes(`${t.root}/data/volumes/`) || line.includes(`${t.root}/run/images/`));

  test("type=tmpfs: mounted for the first container, shared, with its options and the image's content, gone after the last; over a new engine too", async () => {
    await t.engine.volumes.create({ name: "fast", options: { type: "tmpfs", device: "tmpfs", o: "size=1m,noexec" } });
    const first = await t.start(["sleep", "1000"], {}, { Binds: ["fast:/etc/skel"] });
    const second = await t.start(["sleep", "1000"], {}, { Binds: ["fast:/data"] });
    expect(mountsBelow()).toHaveLength(1);
    expect((await t.exec(first, ["sh", "-c", "echo hi > /etc/skel/x; df -k /etc/skel | tail -1"])).out).toMatch(/^tmpfs +1024 /);
    expect((await t.exec(second, ["sh", "-c", "cat /data/x; grep ' /data ' /proc/mounts"])).out).toMatch(/^hi\ntmpfs \/data tmpfs rw,noexec/);
    await t.engine.containers.kill(first, "SIGKILL");
    await t.reopen();
    expect((await t.exec(second, ["cat", "/data/x"])).out).toBe("hi\n");
    await t.engine.containers.kill(second, "SIGKILL");
    expect(mountsBelow()).toEqual([]);
    expect((await t.run(["ls", "/data"], {}, { Binds: ["fast:/data"] })).out).toBe("");
  });

  test("what cannot be mounted refuses the start with the kernel's answer; what is no filesystem, the creation", async () => {
    await t.engine.volumes.create({ name: "bad", options: { type: "ext4", device: "/dev/null" } });
    await expect(t.start(["true"], {}, { Binds: ["bad:/data"] })).rejects.toThrow("mounting volume bad (ext4 /dev/null): ENOTBLK");
    const create = (options: Record<string, string>) => t.engine.volumes.create({ name: "no", options });
    await expect(create({ type: "nfs", device: ":/x", o: "ro" })).rejects.toThrow(/needs its server/);
    // Nobody serves NFS here: what the kernel says of it, or that it does not know NFS, is told.
    await t.engine.volumes.create({
      name: "far",
      options: { type: "nfs", device: ":/x", o: "addr=localhost,soft,timeo=1,retrans=0,vers=3,nolock,port=1,mountport=1" },
    });
    await expect(t.start(["true"], {}, { Binds: ["far:/data"] })).rejects.toMatchObject({
      code: "kernel",
      message: expect.stringMatching(/^mounting volume far \(nfs :\/x\): E[A-Z]+$/),
    });
    await t.engine.volumes.create({ name: "nowhere", options: { type: "nfs", device: ":/x", o: "addr=nobody.invalid" } });
    await expect(t.start(["true"], {}, { Binds: ["nowhere:/data"] })).rejects.toThrow(/the server's name "nobody.invalid" cannot be resolved: /);
    expect(mountsBelow()).toEqual([]);
    await expect(create({ type: "tmpfs" })).rejects.toThrow('create no: missing required option: "device"');
    await expect(create({ device: "x" })).rejects.toThrow('create no: missing required option: "type"');
  });

  test("an image as a mount: read-only, one path of it, kept from removal", async () => {
    const made = await t.start(["sh", "-c", "mkdir -p /srv/a; echo one > /srv/a/f; ln -s /etc /srv/link; sleep 1000"]);
    await t.exec(made, ["sh", "-c", "while [ ! -h /srv/link ]; do sleep 0.01; done"]);
    const image = await t.engine.containers.commit(made, { reference: "content:1", comment: "", author: "", pause: false, changes: undefined });
    const mount = (Subpath?: string) => ({
      Mounts: [{ Type: "image" as const, Source: "content:1", Target: "/content", ...(Subpath === undefined ? {} : { ImageOptions: { Subpath } }) }],
    });
    const whole = await t.start(["sleep", "1000"], {}, mount());
    expect((await t.exec(whole, ["sh", "-c", "cat /content/srv/a/f; touch /content/x"])).out).toMatch(/^one\ntouch: .*Read-only file system\n$/);
    const part = await t.start(["sleep", "1000"], {}, mount("srv/a"));
    expect((await t.exec(part, ["ls", "/content"])).out).toBe("f\n");
    await expect(t.start(["true"], {}, mount("srv/link"))).rejects.toThrow(/symbolic link/);
    await expect(t.start(["true"], {}, mount("none"))).rejects.toThrow(/no such path/);
    await expect(t.engine.images.remove(image, { force: false, prune: true })).rejects.toThrow(/image is being used by running container/);
    await t.removeAll();
    await t.engine.images.remove("content:1", { force: false, prune: true });
  });

  test("clone, export, import, rename", async () => {
    await t.engine.volumes.create({ name: "data", labels: { tier: "db" } });
    await t.run(["sh", "-c", "cd /d; echo hi > f; ln f g; ln -s f s; mkdir -m 700 dir; chown 7:8 dir; mkfifo p"], {}, { Binds: ["data:/d"] });
    await t.removeAll();
    const list = async (name: string) => {
      const { out } = await t.run(["sh", "-c", "cd /d; stat -c '%n %F %a %u:%g %h' * | sort; cat g"], {}, { Binds: [`${name}:/d`] });
      await t.removeAll();
      return out;
    };
    const want = await list("data");
    expect(want).toContain("f regular file 644 0:0 2\n");
    expect(await t.engine.volumes.clone("data", "copy")).toMatchObject({ Name: "copy", Labels: { tier: "db" } });
    await t.run(["sh", "-c", "echo changed > /d/f"], {}, { Binds: ["copy:/d"] });
    await t.removeAll();
    expect(await list("data")).toBe(want);
    const tar: Uint8Array[] = [];
    for await (const chunk of await t.engine.volumes.exportTar("data")) tar.push(chunk);
    const archive = join(t.root, "data.tar.gz");
    await writeFile(archive, gzipSync(Buffer.concat(tar)));
    await t.engine.volumes.importTar(
      "restored",
      (async function* () {
        yield readFileSync(archive);
      })(),
    );
    expect(await list("restored")).toBe(want);
    await t.engine.volumes.rename("restored", "renamed");
    expect(() => t.engine.volumes.get("restored")).toThrow("get restored: no such volume");
    await t.reopen();
    expect(await list("renamed")).toBe(want);
    await expect(
      t.engine.volumes.importTar(
        "broken",
        (async function* () {
          yield Buffer.alloc(2048, 1);
        })(),
      ),
    ).rejects.toThrow();
    expect(t.engine.volumes.list({ name: ["broken"] })).toEqual([]);
    await expect(t.engine.volumes.clone("data", "copy")).rejects.toThrow("volume copy already exists");
    const user = await t.create(["true"], {}, { Binds: ["data:/d"] });
    await expect(t.engine.volumes.rename("data", "other")).rejects.toThrow(`rename data: volume is in use - [${user}]`);
  });
});
