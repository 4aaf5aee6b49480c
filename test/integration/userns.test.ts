/** User namespaces through the engine: whose ids they are, what the files of image, volumes and binds belong to, and that ranges come back. */
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { HostConfig } from "#core/container-config.ts";
import { openEngine } from "#engine/open-engine.ts";
import { PRIVATE_RANGE } from "#engine/id-ranges.ts";
import { probeHost } from "#linux/probe-host.ts";
import { ownersIn } from "../fixtures.ts";
import { TestEngine, until } from "./engine-setup.ts";

const facts = await probeHost();
const able = process.getuid?.() === 0 && facts.idmappedMounts && facts.overlay.layerFds;
const sh = (script: string) => ["sh", "-c", script];
const auto = { UsernsMode: "auto" };

describe.skipIf(!able)("user namespaces", () => {
  let t: TestEngine;
  let work: string;
  beforeAll(async () => {
    t = await TestEngine.open();
    work = mkdtempSync(join(tmpdir(), "wherry-userns-"));
  });
  afterAll(async () => {
    await t?.[Symbol.asyncDispose]();
    rmSync(work, { recursive: true, force: true });
  });
  const out = async (script: string, host: Partial<HostConfig>, config = {}) => {
    const { code, out: text, err } = await t.run(sh(script), config, host);
    expect(err).toBe("");
    expect(code).toBe(0);
    return text.trim();
  };
  const first = (id: string) => t.engine.containers.get(id).idMappings?.uids[0]?.hostID ?? -1;

  test("containers made at the same time have ranges that do not meet; they come back at removal, and the records keep them over a restart", async () => {
    await t.removeAll();
    const ids = await Promise.all(Array.from({ length: 8 }, () => t.create(["true"], {}, auto)));
    const starts = ids.map(first).sort((a, b) => a - b);
    expect(new Set(starts).size).toBe(8);
    for (const [i, start] of starts.entries()) expect(start).toBe(PRIVATE_RANGE.hostID + (i + 1) * 65536);
    await t.reopen();
    const [freed = "", ...others] = ids;
    const range = first(freed);
    expect(range).toBeGreaterThan(0);
    expect(others.map(first)).not.toContain(first(await t.create(["true"], {}, auto)));
    await t.engine.containers.remove(freed, { force: true, volumes: true });
    expect(first(await t.create(["true"], {}, auto))).toBe(range);
    await t.removeAll();
  });

  test("a creation that fails gives its range back", async () => {
    const lowest = PRIVATE_RANGE.hostID + 65536;
    const broken = t.request("busybox", ["true"], {}, { ...auto, Binds: ["/dev/null/x:/x"] });
    await expect(t.engine.containers.create(broken)).rejects.toThrow();
    const id = await t.create(["true"], {}, auto);
    expect(first(id)).toBe(lowest);
  });

  test("map and auto: sizes, further ranges, groups of their own", async () => {
    const maps = "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '";
    expect(await out(maps, { UsernsMode: "map:0:300000:1000,u1000:0400000:1,g2000:500000:7" })).toBe(
      "0 300000 1000\n 1000 400000 1\n 0 300000 1000\n 2000 500000 7",
    );
    const sized = (await out(maps, { UsernsMode: "auto:size=1000,uidmapping=33:4242:1" })).split("\n").map((line) => line.trim().split(" ").map(Number));
    expect(sized.slice(0, 3).map(([inside, , count]) => [inside, count])).toEqual([
      [0, 33],
      [33, 1],
      [34, 966],
    ]);
    expect(sized[1]?.[1]).toBe(4242);
    await expect(t.create(["true"], {}, { UsernsMode: "map:1:2:3" })).rejects.toThrow("invalid uid mapping: it has no container id 0");
    await expect(t.create(["true"], {}, { UsernsMode: "map:0:2:3,2:9:1" })).rejects.toThrow("overlap");
    await expect(t.create(["true"], {}, { UsernsMode: "other" })).rejects.toThrow("invalid USER mode: other");
    await expect(t.create(["true"], {}, { UsernsMode: "keep-id" })).rejects.toThrow("keep-id: the caller is root");
    await expect(t.run(["true"], { User: "5000" }, { UsernsMode: "auto:size=100" })).rejects.toThrow("uid 5000 is not in the container's user namespace");
  });

  test("keep-id: the container's user is the caller on the host, and files in a bind are the caller's in both directions", async () => {
    const dir = join(work, "kept");
    mkdirSync(dir);
    chownSync(dir, 1234, 2345);
    writeFileSync(join(dir, "mine"), "");
    chownSync(join(dir, "mine"), 1234, 2345);
    const mode = { UsernsMode: "keep-id:hostuid=1234,hostgid=2345", Binds: [`${dir}:/b`] };
    expect(await out("id -u; id -g; stat -c %u:%g /b/mine; touch /b/new", mode)).toBe("1234\n2345\n1234:2345");
    expect(statSync(join(dir, "new"))).toMatchObject({ uid: 1234, gid: 2345 });
    // An image's user, by name: it is the one that is mapped.
    expect(await out("id -u; stat -c %u:%g /b/mine; touch /b/named", mode, { User: "www-data" })).toBe("33\n33:33");
    expect(statSync(join(dir, "named"))).toMatchObject({ uid: 1234, gid: 2345 });
    expect(await out("stat -c %u:%g /b/mine", { ...mode, UsernsMode: "keep-id:hostuid=1234,hostgid=2345,uid=0,gid=0" })).toBe("0:0");
  });

  test("idmap: with and without a user namespace, what is written belongs to the owner of the folder", async () => {
    const dir = join(work, "mapped");
    mkdirSync(dir);
    writeFileSync(join(dir, "mine"), "text");
    for (const path of [dir, join(dir, "mine")]) chownSync(path, 4321, 5432);
    for (const [name, host] of Object.entries({ plain: {}, auto, private: { UsernsMode: "private" } })) {
      const bind = { ...host, Binds: [`${dir}:/b:idmap`] };
      expect(await out(`stat -c %u:%g /b/mine; cat /b/mine; echo x > /b/${name}; mkdir /b/d-${name}`, bind)).toBe("0:0\ntext");
      for (const made of [name, `d-${name}`]) expect(statSync(join(dir, made))).toMatchObject({ uid: 4321, gid: 5432 });
      expect(await out("stat -c %u:%g /b/mine; touch /b/33", bind, { User: "33:33" })).toBe("33:33");
      expect(statSync(join(dir, "33"))).toMatchObject({ uid: 4321, gid: 5432 });
    }
    const mount = (WherryIdmap: string): NonNullable<HostConfig["Mounts"]> => [{ Type: "bind", Source: dir, Target: "/b", BindOptions: { WherryIdmap } }];
    expect(await out("stat -c %u:%g /b/mine", { ...auto, Mounts: mount("uids=@4321-7-1;gids=@5432-8-1") })).toBe("7:8");
    expect(await out("stat -c %u:%g /b/mine", { ...auto, Mounts: mount("same") })).toBe("4321:5432");
    await expect(t.create(["true"], {}, { Mounts: mount("same") })).rejects.toThrow("the container has no user namespace");
    await expect(t.create(["true"], {}, { Mounts: mount("what") })).rejects.toThrow("invalid idmap option: what");
    await expect(t.create(["true"], {}, { Binds: ["vol:/v:idmap"] })).rejects.toThrow("idmap is for bind mounts only");
  });

  test("cp shows of binds, volumes and the root the owners that the container sees, running or not; export those of the root", async () => {
    const dir = mkdtempSync(join(work, "cp-"));
    chmodSync(dir, 0o755);
    writeFileSync(join(dir, "mine"), "");
    for (const path of [dir, join(dir, "mine")]) chownSync(path, 4321, 5432);
    const binds: Record<string, readonly [Partial<HostConfig>, string]> = {
      idmap: [{ Binds: [`${dir}:/b:idmap`] }, "0:0"],
      "idmap in a namespace": [{ ...auto, Binds: [`${dir}:/b:idmap`] }, "0:0"],
      "ids by hand": [{ ...auto, Mounts: [{ Type: "bind", Source: dir, Target: "/b", BindOptions: { WherryIdmap: "uids=@4321-7-1;gids=@5432-8-1" } }] }, "7:8"],
      "a plain one in a namespace": [{ ...auto, Binds: [`${dir}:/b`] }, "65534:65534"],
    };
    for (const [name, [host, seen]] of Object.entries(binds)) {
      const id = await t.start(["sh", "-c", "stat -c %u:%g /b/mine; touch /own; chown 12:13 /own; echo up; sleep 60"], {}, host);
      await until(async () => (await t.logs(id)).out.includes("up"));
      expect((await t.logs(id)).out, name).toContain(`${seen}\n`);
      const copied = async (path: string) => ownersIn((await t.engine.containers.readArchive(id, path)).tar);
      expect(await copied("/b/mine"), `${name}, running`).toEqual({ mine: seen });
      expect(await copied("/own"), `${name}, running`).toEqual({ own: "12:13" });
      await t.engine.containers.kill(id, "SIGKILL");
      await t.engine.containers.wait(id, "not-running");
      expect(await copied("/b/mine"), `${name}, stopped`).toEqual({ mine: seen });
      expect(await copied("/own"), `${name}, stopped`).toEqual({ own: "12:13" });
      const exported = await ownersIn(await t.engine.containers.exportTree(id));
      expect(exported, name).toMatchObject({ own: "12:13", "bin/sh": "0:0", etc: "0:0" });
    }
  });

  test("who joins another container's network from a namespace of his own sees its /sys, not the host's", async () => {
    const other = await t.start(["sh", "-c", "sleep 60"], {}, { NetworkMode: "none" });
    const seen = await out("ls /sys/class/net; ls /sys/fs | grep -c cgroup; touch /sys/x 2>&1 | grep -c Read-only", {
      ...auto,
      NetworkMode: `container:${other}`,
    });
    expect(seen).toBe("lo\n1\n1");
  });

  test("a plain bind shows owners that the namespace does not know as nobody's", async () => {
    const dir = mkdtempSync(join(work, "bind-"));
    expect(await out("stat -c %u /b; touch /b/x 2>&1 | grep -c denied", { ...auto, Binds: [`${dir}:/b`] })).toBe("65534\n1");
  });

  test("image, volume with copy-up, tmpfs, /dev, /etc files and terminals are the container's", async () => {
    const script =
      "stat -c %u /etc/passwd /bin /bin/sh /t /dev/shm /etc/hosts /etc/resolv.conf /etc/hostname; echo x > /bin/seven; chown 7 /bin/seven; touch /t/a; chown 9 /t/a; stat -c %u /t/a; echo a >> /etc/hosts; head -c1 /dev/zero | wc -c; mknod /t/n c 1 3 2>&1 | grep -c permitted";
    const host = { ...auto, Tmpfs: { "/t": "" }, Mounts: [{ Type: "volume" as const, Source: "uv", Target: "/bin" }] };
    expect(await out(script, host)).toBe([..."00000000", "9", "1", "1"].join("\n"));
    // Another container, with another range, finds the volume's owners as they were.
    expect(await out("stat -c %u /bin/seven", host)).toBe("7");
    expect(await t.run(sh("tty; stat -c %u:%g $(tty); echo typed > $(tty)"), { Tty: true }, auto)).toMatchObject({ code: 0 });
    await t.removeAll();
    await t.engine.volumes.remove("uv", false);
  });

  test("exec, stats, cp in both directions, diff, export and commit count ids as the container does", async () => {
    const id = await t.start(sh("echo x > /f; chown 9:8 /f; rm /bin/wget; mkdir /d; echo ready; sleep 60"), {}, auto);
    await until(async () => (await t.logs(id)).out.includes("ready"), 20_000);
    const { pid } = t.engine.containers.get(id).state;
    expect(statSync(`/proc/${pid}`).uid).toBe(first(id));
    expect((await t.exec(id, ["sh", "-c", "id -u; stat -c %u:%g /f"])).out).toBe("0\n9:8\n");
    expect((await t.exec(id, ["id", "-u"], { User: "33" })).out).toBe("33\n");
    expect((await t.exec(id, ["sh", "-c", "stat -c %u $(tty)"], { Tty: true })).out.trim()).toBe("0");
    expect((await t.engine.containers.stats(id))?.pids.current).toBeGreaterThan(0);
    const changes = (await t.engine.containers.changes(id)).filter(({ path }) => /^\/(f|d|bin|bin\/wget)$/.test(path));
    expect(changes).toEqual([
      { kind: "modify", path: "/bin" },
      { kind: "delete", path: "/bin/wget" },
      { kind: "add", path: "/d" },
      { kind: "add", path: "/f" },
    ]);
    await t.engine.containers.commit(id, { reference: "mapped:1", comment: "", author: "", pause: false, changes: undefined });
    const { out: text } = await t.run(sh("stat -c %u:%g /f /bin/sh"), { Image: "mapped:1" }, {});
    expect(text).toBe("9:8\n0:0\n");
    await t.removeAll();
    await t.engine.images.remove("mapped:1", { force: true, prune: true });
  });

  test("another container's network and IPC can be joined", async () => {
    const id = await t.start(["sleep", "60"], {}, { ...auto, IpcMode: "shareable" });
    expect(
      await out("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; echo ok", { ...auto, NetworkMode: `container:${id}`, IpcMode: `container:${id}` }),
    ).toBe("lo\nok");
    await t.engine.containers.remove(id, { force: true, volumes: true });
  });

  test("who joins another container's processes from a namespace of his own sees them, and may do nothing to them", async () => {
    const id = await t.start(["sleep", "61"]);
    expect(
      await out(
        "ps -o args | grep -c '^sleep 61'; kill 1 2>&1 | grep -c permitted; readlink /proc/1/root 2>&1 | grep -c /; id -u; test $$ -gt 1 && echo joined",
        {
          ...auto,
          PidMode: `container:${id}`,
        },
      ),
    ).toBe("1\n1\n0\n0\njoined");
    await t.engine.containers.remove(id, { force: true, volumes: true });
  });

  test("a daemon-wide remap is for all that do not say otherwise, and refuses as dockerd", async () => {
    await t.removeAll();
    await t.engine.close();
    const remapped = await openEngine({ ...t.options, usernsRemap: "default" });
    try {
      const info = await remapped.system.info();
      expect(info.securityOptions).toContain("name=userns");
      expect(info.warnings.join()).not.toContain("private copies");
      const make = (host: Partial<HostConfig>) => remapped.containers.create(t.request("busybox", ["true"], {}, host));
      const { id } = await make({});
      expect(remapped.containers.get(id).idMappings?.uids[0]?.containerID).toBe(0);
      expect(remapped.containers.get(id).hostConfig.UsernsMode).toBe("");
      expect(remapped.containers.get((await make({ UsernsMode: "host" })).id).idMappings).toBeUndefined();
      await expect(make({ Privileged: true })).rejects.toThrow(
        "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
      );
      await expect(make({ NetworkMode: "host" })).rejects.toThrow("cannot share the host's network namespace when user namespaces are enabled");
      await expect(make({ PidMode: "host" })).rejects.toThrow("cannot share the host PID namespace when user namespaces are enabled");
      await make({ Privileged: true, UsernsMode: "host" });
    } finally {
      for (const { id } of remapped.containers.list({ all: true, limit: undefined, filters: {} }))
        await remapped.containers.remove(id, { force: true, volumes: true });
      await remapped.close();
      t.engine = await openEngine(t.options);
    }
    await expect(
      openEngine({ ...t.options, dataRoot: join(work, "other"), execRoot: join(work, "other-run"), usernsRemap: "nobody-knows-this" }),
    ).rejects.toThrow('No subuid ranges found for user "nobody-knows-this"');
    expect(readFileSync("/proc/self/uid_map", "utf8")).toMatch(/^ +0 +0 /);
  });
});
