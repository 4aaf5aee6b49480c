/** Attacks on the engine from within a container: what it does with a container's files, its program, its output. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { probeHost } from "#linux/probe-host.ts";
import { TarReader } from "#unionfs/tar/reader.ts";
import { helperPath, TestEngine, until } from "../integration/engine-setup.ts";
import { RuntimeUnderTest, wherryRuntime } from "../integration/oci-runtime.fixture.ts";
import { Sandbox } from "../integration/sandbox.ts";
import { compileAttack, compileWeakened, startWatcher } from "./attack-program.fixture.ts";

const needsRoot = process.getuid?.() !== 0;

describe.skipIf(needsRoot)("attacks on the engine", () => {
  let t: TestEngine;
  let tools: string;
  beforeAll(async () => {
    t = await TestEngine.open();
    tools = join(t.root, "tools");
    mkdirSync(tools);
    compileAttack(join(tools, "attack"));
  });
  afterEach(async () => await t.removeAll());
  afterAll(async () => await t[Symbol.asyncDispose]());

  const withTools = (host = {}) => ({ Binds: [`${tools}:/tools:ro`], ...host });
  /** A container that has made itself hostile, and sleeps. */
  const hostile = async (script: string, host = {}) => {
    const id = await t.start(["sh", "-c", `${script}\necho up; exec sleep 60`], {}, withTools(host));
    await until(async () => (await t.logs(id)).out.includes("up"));
    return id;
  };
  const pidOf = (id: string) => t.engine.containers.get(id).state.pid;

  describe("exec into a container whose root is hostile", () => {
    it.each([
      ["a FIFO", "rm /etc/passwd; mkfifo /etc/passwd"],
      ["a device", "rm /etc/passwd; mknod /etc/passwd c 10 130"],
      ["endless", "rm /etc/passwd; ln -s /dev/zero /etc/passwd"],
      ["a loop of links", "rm /etc/passwd; ln -s passwd /etc/passwd"],
      ["a link to the memory of a process", "rm /etc/passwd; ln -s /proc/self/mem /etc/passwd"],
      ["a directory", "rm /etc/passwd; mkdir /etc/passwd"],
      ["giant", "yes 'x:x:7:7::/:/x' | head -c 30000000 > /etc/passwd"],
    ])("/etc/passwd is %s", async (_what, script) => {
      const id = await hostile(script);
      expect(await t.exec(id, ["/bin/echo", "works"])).toEqual({ code: 0, out: "works\n" });
    });

    it.each([
      ["a FIFO", "rm /etc/group; mkfifo /etc/group"],
      ["endless", "rm /etc/group; ln -s /dev/zero /etc/group"],
      ["giant", "yes 'x:x:7:root' | head -c 30000000 > /etc/group"],
      ["one long line", "head -c 3000000 /dev/zero | tr '\\0' a > /etc/group"],
      ["of many groups", 'i=0; while [ $i -lt 3000 ]; do echo "g$i:x:$((i + 100)):root"; i=$((i + 1)); done > /etc/group'],
      ["of bytes that are no text", "head -c 100000 /dev/urandom > /etc/group"],
    ])("/etc/group is %s", async (_what, script) => {
      const id = await hostile(script);
      const { code, out } = await t
        .exec(id, ["grep", "^Uid", "/proc/self/status"], { User: "root" })
        .catch((error: Error) => ({ code: -1, out: error.message }));
      // It runs as who it shall be, or is refused in words: never as somebody else, and the engine goes on.
      if (code === 0) expect(out).toBe("Uid:\t0\t0\t0\t0\n");
      else expect(out).not.toBe("");
      expect(await t.exec(id, ["/bin/echo", "works"])).toEqual({ code: 0, out: "works\n" });
    });

    it("a group of /etc/group that means no change to the kernel is refused; another is taken", async () => {
      const groups = async (file: string) => {
        const id = await hostile(`printf '${file}' > /etc/group`);
        return (await t.exec(id, ["grep", "^Groups", "/proc/self/status"], { User: "root" }).catch((error: Error) => ({ out: error.message }))).out.trim();
      };
      expect(await groups("fine:x:4321:root\\n")).toMatch(/^Groups:.* 4321$/);
      for (const file of ["evil:x:-1:root\\n", "big:x:4294967295:root\\n"]) expect(await groups(file)).not.toMatch(/4294967295|-1\b.*Groups|Groups:.*-1/);
    });

    it("an id of /etc/passwd that means no change to the kernel is refused: it would be root", async () => {
      const id = await hostile("printf 'evil:x:-1:0::/:/x\\nbig:x:4294967296:0::/:/x\\ngood:x:1234:1234::/:/x\\n' > /etc/passwd");
      expect((await t.exec(id, ["id", "-u"], { User: "good" })).out).toBe("1234\n");
      for (const User of ["evil", "big"]) {
        const { out } = await t.exec(id, ["id", "-u"], { User }).catch(() => ({ out: "refused" }));
        expect(out).not.toBe("0\n");
      }
    });

    it("the shell is a link out of the root: it stays within", async () => {
      const id = await hostile("mkdir /x; cp /bin/busybox /x/true; ln -sf ../../../../../../x/true /bin/sh");
      expect((await t.exec(id, ["/bin/sh"])).code).toBe(0);
    });

    it("the program is a FIFO or a device: exec fails, and does not hang", async () => {
      const id = await hostile("mkfifo /bin/pipe; chmod 755 /bin/pipe; mknod /bin/node c 1 3; chmod 755 /bin/node");
      for (const name of ["pipe", "node"]) expect((await t.exec(id, [`/bin/${name}`])).code).toBe(126);
    });

    it("/proc is hidden below a tmpfs", async () => {
      const id = await hostile("mount -t tmpfs none /proc", { CapAdd: ["SYS_ADMIN"], SecurityOpt: ["seccomp=unconfined", "apparmor=unconfined"] });
      expect((await t.exec(id, ["echo", "works"])).out).toContain("works");
    });
  });

  it("CVE-2018-15664: cp from a path that is swapped for a link reads nothing of the host", async () => {
    const secret = mkdtempSync(join(t.root, "secret-"));
    writeFileSync(join(secret, "flag"), "the host's");
    const id = await hostile(`mkdir -p /data; echo mine > /data/flag; ln -s ${secret} /link; /tools/attack swap /data /link &`);
    const seen = new Set<string>();
    for (let i = 0; i < 60; i++) {
      try {
        const { tar } = await t.engine.containers.readArchive(id, "/data/flag");
        const reader = new TarReader(tar);
        for (let entry = await reader.next(); entry !== undefined; entry = await reader.next())
          if (entry.type === "file") seen.add((await reader.readAll(1 << 16)).toString());
      } catch (error) {
        seen.add((error as { code?: string }).code ?? "?"); // the other side of the swap: there is no such file in the container
      }
    }
    expect([...seen]).not.toContain("the host's");
    // By a path through the same root, as it was done once, it is read.
    let naive = false;
    for (const end = performance.now() + 20_000; performance.now() < end && !naive; ) {
      try {
        naive = readFileSync(`/proc/${pidOf(id)}/root/data/flag`, "utf8") === "the host's";
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      }
    }
    expect(naive).toBe(true);
  });

  it("CVE-2019-14271: cp loads no library of the image, because it has nothing to load", async () => {
    const lib = join(tools, "libevil.so");
    writeFileSync(
      join(tools, "evil.c"),
      '#include <fcntl.h>\n__attribute__((constructor)) static void run(void) { open("/loaded", O_CREAT | O_WRONLY, 0600); }\n',
    );
    execFileSync("gcc", ["-shared", "-fPIC", "-o", lib, join(tools, "evil.c")]);
    const names = ["libnss_files.so.2", "libc.so.6", "libnss_compat.so.2", "ld-linux-x86-64.so.2"];
    const id = await hostile(
      `for d in /lib /lib64 /usr/lib /lib/x86_64-linux-gnu; do mkdir -p $d; for n in ${names.join(" ")}; do cp /tools/libevil.so $d/$n; done; done; echo /lib/libc.so.6 > /etc/ld.so.preload`,
    );
    await t.exec(id, ["sh", "-c", "cp /tools/libevil.so /lib/libnss_evil.so.2; echo 'passwd: evil' > /etc/nsswitch.conf"]);
    const { tar } = await t.engine.containers.readArchive(id, "/etc");
    for await (const chunk of tar) void chunk;
    expect((await t.exec(id, ["ls", "/loaded"])).code).not.toBe(0);
    // A program that looks a user up after chroot, as docker-tar did, loads it: the library works.
    const lookup = `import os\nos.chroot("/proc/${pidOf(id)}/root")\nimport pwd\ntry: pwd.getpwnam("nobody")\nexcept KeyError: pass`;
    execFileSync("python3", ["-c", lookup]);
    expect((await t.exec(id, ["ls", "/loaded"])).code).toBe(0);
    // PT_INTERP (3) names the loader: the helper has none.
    const elf = readFileSync(helperPath);
    const [at, size, count] = [Number(elf.readBigUInt64LE(32)), elf.readUInt16LE(54), elf.readUInt16LE(56)];
    const types = Array.from({ length: count }, (_, i) => elf.readUInt32LE(at + i * size));
    expect(types).not.toContain(3);
  });

  it("a container that fills its log: the log ends at its limit", async () => {
    const size = async (Config: Record<string, string>) => {
      const { id } = await t.run(
        ["sh", "-c", "yes 0123456789012345678901234567890123456789 | head -c 3000000"],
        {},
        { LogConfig: { Type: "json-file", Config } },
      );
      const directory = join(t.root, "data/containers", id);
      return readdirSync(directory, { recursive: true, encoding: "utf8" })
        .filter((name) => name.includes("-json.log"))
        .reduce((sum, name) => sum + statSync(join(directory, name)).size, 0);
    };
    expect(await size({ "max-size": "64k", "max-file": "3" })).toBeLessThan(3 * 64 * 1024 + 20_000);
    expect(await size({})).toBeGreaterThan(3_000_000);
  });

  it("fork bomb: the engine goes on, and nothing is left", async () => {
    const id = await t.start(["sh", "-c", "bomb() { bomb | bomb & }; bomb; sleep 60"], {}, { PidsLimit: 64 });
    await until(() => processes(id) > 30);
    expect((await t.run(["echo", "beside"])).out).toBe("beside\n");
    await t.engine.containers.kill(id, "SIGKILL");
    expect(t.engine.containers.get(id).state.status).toBe("exited");
  });
  const processes = (id: string) => {
    const files = Object.values(t.engine.containers.get(id).cgroup?.dirs ?? {}).map((directory) => join(directory, "pids.current"));
    return Math.max(...files.filter(existsSync).map((file) => Number(readFileSync(file, "utf8"))));
  };

  it("a process that ignores signals is stopped after the timeout, and the record says by whom", async () => {
    const id = await hostile("trap '' TERM INT");
    // sleep inherits what is ignored.
    await t.engine.containers.stop(id, { timeout: 1 });
    expect(t.engine.containers.get(id).state).toMatchObject({ status: "exited", exitCode: 137, reason: expect.stringMatching(/SIGKILL.*stop.*timeout/) });
  });

  it("which system calls the filter refused is told when it was asked for, and only of this container", async () => {
    const script = ["sh", "-c", "mount -t tmpfs x /tmp; unshare -U true; exit 3"];
    const { id, code, reason } = await t.run(script, {}, { SecurityOpt: ["seccomp-audit=true"] });
    expect({ code, reason }).toEqual({ code: 3, reason: "exited 3; seccomp refused mount, unshare" });
    expect(t.engine.containers.get(id).state.refused).toEqual(["mount", "unshare"]);
    expect(await t.run(["true"], {}, { SecurityOpt: ["seccomp-audit=true"] })).toMatchObject({ reason: undefined });
    const silent = await t.run(script);
    expect(t.engine.containers.get(silent.id).state).toMatchObject({ reason: "exited 3" });
    await expect(t.run(["true"], {}, { SecurityOpt: ["seccomp-audit=true", "seccomp=unconfined"] })).rejects.toThrow("nothing to tell");
  });

  describe("CVE-2019-5736: the engine's own program", () => {
    const digest = (path: string) => createHash("sha256").update(readFileSync(path)).digest("hex");
    it("exec: what an attacker gets hold of is a sealed copy; without the seal, it is the host's file", async () => {
      mkdirSync(join(t.root, "unsealed"));
      const unsealed = join(t.root, "unsealed/wherry-helper");
      compileWeakened(unsealed, ["-DWHERRY_UNSEALED"]);
      const seenOf = async (helper: string) => {
        await using box = await Sandbox.open(await probeHost(), "/tmp", helper);
        compileAttack(join(box.dir, "base/bin/attack"));
        // It sees itself: the program that runs is the helper's own, as "#!/proc/self/exe" makes it.
        writeFileSync(join(box.dir, "base/bin/hostile"), "#!/proc/self/exe\n", { mode: 0o755 });
        const target = await startWatcher(box, { args: ["attack", "watch-exe"], hostConfig: { CapAdd: ["SYS_PTRACE"] } });
        const caught = () => target.output().stdout.includes("exe ");
        for (let i = 0; i < 100 && !caught(); i++) await box.exec(target, ["/bin/hostile"]).catch(() => undefined);
        if (!caught()) await target.link.kill(15);
        return (await target.finish()).stdout.replace("watching ok\n", "");
      };
      const inode = statSync(unsealed).ino;
      expect(await seenOf(unsealed)).toContain(` ${inode}\n`);
      const sealed = await seenOf(helperPath);
      expect(sealed).toMatch(/^exe \/memfd:wherry-helper/);
      expect(sealed).toMatch(/seals (15|31|47|63)\n/);
      expect(sealed).not.toContain("write ok");
    });

    it("wherry-runtime exec: the same, when the attacker has CAP_SYS_PTRACE", async () => {
      const dist = join(t.root, "dist");
      cpSync(join(wherryRuntime, "../.."), dist, { recursive: true, filter: (source) => !/types$|\.map$/.test(source) });
      compileWeakened(join(dist, "bin/wherry-helper"), ["-DWHERRY_UNSEALED"]);
      const seenOf = async (program: string) => {
        const runtime = new RuntimeUnderTest(program);
        try {
          const bundle = runtime.bundle("exec /attack watch-exe", (spec) => {
            spec.root.readonly = false;
            const all = ["CAP_KILL", "CAP_SYS_PTRACE"];
            spec.process.capabilities = { bounding: all, effective: all, permitted: all };
          });
          compileAttack(join(bundle, "rootfs/attack"));
          writeFileSync(join(bundle, "rootfs/hostile"), "#!/proc/self/exe\n", { mode: 0o755 });
          const id = runtime.id();
          expect(runtime.create(id, bundle)).toMatchObject({ code: 0 });
          expect(runtime.call(["start", id]).code).toBe(0);
          const seen = () => readFileSync(join(bundle, "out"), "utf8").replace("watching ok\n", "");
          for (let i = 0; i < 50 && seen() === ""; i++) runtime.call(["exec", id, "/hostile"]);
          runtime.call(["run", "--bundle", runtime.bundle("exec /proc/self/exe"), runtime.id()]);
          // What it can do with its catch takes it a moment.
          for (let i = 0; i < 500 && runtime.status(id) === "running"; i++) await sleep(20);
          runtime.call(["delete", "--force", id]);
          return seen();
        } finally {
          runtime.dispose();
        }
      };
      const before = [digest(helperPath), digest(process.execPath)];
      expect(await seenOf(join(dist, "bin/wherry-runtime"))).toContain(` ${statSync(join(dist, "bin/wherry-helper")).ino}\n`);
      const sealed = await seenOf(wherryRuntime);
      expect(sealed).toMatch(/^exe \/memfd:wherry-helper/);
      expect(sealed).not.toContain("write ok");
      expect([digest(helperPath), digest(process.execPath)]).toEqual(before);
    });
  });
});
