/**
 * Attacks on a container's start and on its walls. Each runs twice: against the container as it is planned, and with one defence taken out, where it must
 * succeed: else the test would prove nothing.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { HostConfig } from "#core/container-config.ts";
import { O, PR } from "#linux/flags.ts";
import { NO_SLOT, SLOT_BASE, type Step } from "#linux/plan.ts";
import { probeHost } from "#linux/probe-host.ts";
import { planReadRootFiles, slots } from "#runtime/mod.ts";
import { until } from "../integration/engine-setup.ts";
import { type RunOptions, Sandbox } from "../integration/sandbox.ts";
import { compileAttack, compileWeakened, endWatcher, outcomes, startWatcher } from "./attack-program.fixture.ts";

const needsRoot = process.getuid?.() !== 0;
const facts = await probeHost();

describe.skipIf(needsRoot)("attacks from within a container", () => {
  let box: Sandbox;
  const groups = process.getgroups?.() ?? [];
  beforeAll(async () => {
    // The engine's own supplementary groups, which a container must not inherit.
    process.setgroups?.([0, 6, 4242]);
    box = await Sandbox.open(facts);
    process.setgroups?.(groups);
    compileAttack(join(box.dir, "base/bin/attack"));
  });
  afterAll(async () => {
    await box[Symbol.asyncDispose]();
  });

  const attack = async (args: readonly string[], options: Partial<RunOptions> = {}) => {
    const { stdout, stderr, code, signal } = await box.run({ args: ["attack", ...args], ...options });
    return { stdout, stderr, code, signal, ...{ tried: outcomes(stdout) } };
  };
  const host = (hostConfig: Partial<HostConfig>): Partial<RunOptions> => ({ hostConfig });
  const without =
    (drop: (step: Step) => boolean): NonNullable<RunOptions["alter"]> =>
    (steps) =>
      steps.filter((step) => !drop(step));
  const change =
    (which: (step: Step) => boolean, to: (step: Step) => Step): NonNullable<RunOptions["alter"]> =>
    (steps) =>
      steps.map((step) => (which(step) ? to(step) : step));
  const fresh = (name: string) => {
    const path = join(box.dir, `${name}-${Math.random().toString(36).slice(2)}`);
    mkdirSync(path);
    return path;
  };
  const volume = (Source: string, Destination: string) => ({ Type: "bind" as const, Source, Destination, RW: true, Propagation: "" });
  const child = (op: object): Step => ({ where: "child", why: "test", ...op }) as Step;
  const before = (steps: readonly Step[], name: Step["op"], ...added: Step[]) => steps.flatMap((step) => (step.op === name ? [...added, step] : [step]));

  it("supplementary group: the engine's groups are dropped", async () => {
    expect((await attack(["groups"])).stdout.trim()).toBe("0");
    const weak = await attack(["groups"], { alter: without((step) => step.op === "setgroups") });
    expect(weak.stdout.trim().split(" ")).toContain("4242");
  });

  it("CVE-2021-30465: a mount point swapped for a link is found within the root only", async () => {
    const [decoy, shared, mounted] = [fresh("decoy"), fresh("shared"), fresh("mounted")];
    writeFileSync(join(mounted, "flag"), "mounted\n");
    symlinkSync(decoy, join(shared, "a"));
    const options = { args: ["find", "/", "-name", "flag", "-xdev"], mounts: [volume(shared, "/vol"), volume(mounted, "/vol/a/b")] };
    const strong = await box.run({ ...options, args: ["cat", join(decoy, "b/flag")] });
    expect(strong.stdout).toBe("mounted\n");
    expect(readdirSync(decoy)).toEqual([]);
    // By a path instead of a descriptor with RESOLVE_IN_ROOT: the directory is made on the host.
    const alter = change(
      (step) => step.op === "mkdir" && step.path === "vol/a/b",
      (step) => ({ ...step, dir: NO_SLOT, path: `/proc/self/fd/${SLOT_BASE + slots.root}/vol/a/b` }) as Step,
    );
    await box.run({ ...options, args: ["true"], alter }).catch(() => undefined);
    expect(readdirSync(decoy)).toEqual(["b"]);
  });

  it("CVE-2021-30465: the same while another container swaps it again and again", async () => {
    const [decoy, shared, mounted] = [fresh("decoy"), fresh("shared"), fresh("mounted")];
    mkdirSync(join(shared, "a"));
    symlinkSync(decoy, join(shared, "link"));
    const swapper = await box.start({ args: ["attack", "swap", "/vol/a", "/vol/link"], mounts: [volume(shared, "/vol")] });
    for (let i = 0; i < 15; i++) {
      // It may fail, since the directory goes under its feet; it may not act on the host.
      await box.run({ args: ["true"], mounts: [volume(shared, "/vol"), volume(mounted, "/vol/a/b")] }).catch(() => undefined);
      expect(readdirSync(decoy)).toEqual([]);
    }
    await swapper.link.kill(9);
    await swapper.finish();
  });

  it("CVE-2019-19921: a link in the place of /proc is refused", async () => {
    const root = box.overlay();
    mkdirSync(join(root.upper ?? "", "elsewhere"));
    symlinkSync("elsewhere", join(root.upper ?? "", "proc"));
    await expect(box.run({ args: ["true"], root })).rejects.toThrow(/\/proc/);
    const alter = change(
      (step) => step.op === "openat" && step.path === "proc",
      (step) => ({ ...step, flags: O.PATH }) as Step,
    );
    expect(await box.run({ args: ["true"], root, alter })).toMatchObject({ code: 0 });
  });

  /** A /dev of the attacker's, with what it needs to start. */
  const evilDev = (name: string, target: string) => {
    const dev = fresh("dev");
    for (const directory of ["pts", "shm", "mqueue"]) mkdirSync(join(dev, directory));
    symlinkSync(target, join(dev, name));
    return dev;
  };

  it("CVE-2025-31133: /dev/null that is a link to another file hides nothing and shows nothing", async () => {
    const dev = evilDev("null", "/proc/sys/kernel/core_pattern");
    const masked = ["/proc/kcore", "/proc/keys", "/proc/timer_list"].find(existsSync) ?? "";
    const options = { args: ["cat", masked], mounts: [volume(dev, "/dev")] };
    await expect(box.run(options)).rejects.toThrow(/null|device/i);
    const weak = await box.run({ ...options, alter: without((step) => step.op === "expect_device") });
    expect(weak).toMatchObject({ code: 0, stderr: "" });
    expect(weak.stdout).toBe(readFileSync("/proc/sys/kernel/core_pattern", "utf8"));
  });

  it("CVE-2025-52565: /dev/console that is a link does not choose what the terminal covers", async () => {
    // A spec without a /dev of its own: the image's is used.
    const root = box.overlay();
    mkdirSync(join(root.upper ?? "", "dev"));
    symlinkSync("/etc/plain", join(root.upper ?? "", "dev/console"));
    const amend: NonNullable<RunOptions["amend"]> = (spec) => {
      spec.mounts = spec.mounts?.filter(({ destination }) => destination !== "/dev") ?? [];
    };
    const options = { args: ["cat", "/etc/plain"], config: { Tty: true }, amend };
    await expect(box.run({ ...options, args: ["true"], root })).rejects.toThrow(/too many|loop/i);
    expect((await box.run({ ...options, root: box.overlay() })).stdout).toBe("a lower file\r\n");
    const weakened = join(box.dir, "follows/wherry-helper");
    mkdirSync(join(box.dir, "follows"));
    compileWeakened(weakened, ["-include", fileURLToPath(new URL("weaken-links.h", import.meta.url))]);
    await using weak = await Sandbox.open(facts, "/tmp", weakened);
    const weakRoot = weak.overlay();
    mkdirSync(join(weakRoot.upper ?? "", "dev"));
    symlinkSync("/etc/plain", join(weakRoot.upper ?? "", "dev/console"));
    expect((await weak.run({ ...options, args: ["stat", "-c", "%F", "/etc/plain"], root: weakRoot })).stdout.trim()).toBe("character special file");
  });

  it("exec into a root whose /etc/passwd is a link to a file of the host: it is looked up in the root", async () => {
    const theirs = join(box.dir, "their-passwd");
    writeFileSync(theirs, "evil:x:0:0::/:/x\n");
    const root = box.overlay();
    mkdirSync(join(root.upper ?? "", "etc"));
    symlinkSync(theirs, join(root.upper ?? "", "etc/passwd"));
    const { steps } = planReadRootFiles(root, [{ path: "/etc/passwd", tag: 1, max: 100 }], facts);
    const read = async (plan: readonly Step[]) => Buffer.from((await box.helper.call({ steps: plan })).get(1) ?? []).toString();
    expect(await read(steps)).toBe("");
    // By a path, as through /proc/PID/root.
    const byPath = `/proc/self/fd/${SLOT_BASE + slots.root}/etc/passwd`;
    expect(await read(steps.map((step) => (step.op === "report" ? { ...step, dir: NO_SLOT, path: byPath } : step)))).toContain("evil");
  });

  it("exec into a root whose /etc/passwd is a device: the engine, which no device rules bind, does not open it", async () => {
    const read = async (at: Sandbox) => {
      const root = at.overlay();
      mkdirSync(join(root.upper ?? "", "etc"));
      execFileSync("mknod", [join(root.upper ?? "", "etc/passwd"), "c", "1", "5"]);
      const { steps } = planReadRootFiles(root, [{ path: "/etc/passwd", tag: 1, max: 100 }], facts);
      return (await at.helper.call({ steps })).get(1)?.length ?? 0;
    };
    expect(await read(box)).toBe(0);
    const weakened = join(box.dir, "regular/wherry-helper");
    mkdirSync(join(box.dir, "regular"));
    compileWeakened(weakened, ["-include", fileURLToPath(new URL("weaken-regular.h", import.meta.url))]);
    await using weak = await Sandbox.open(facts, "/tmp", weakened);
    expect(await read(weak)).toBe(100); // of /dev/zero
  });

  it("CVE-2025-52881: a volume over /proc by way of a link of the image does not take what is written to /proc", async () => {
    const root = box.overlay();
    const fake = fresh("fakeproc");
    mkdirSync(join(fake, "sys/net/ipv4"), { recursive: true });
    mkdirSync(join(root.upper ?? "", "proc"));
    symlinkSync("/proc", join(root.upper ?? "", "vol"));
    for (const name of ["ip_unprivileged_port_start", "ping_group_range"]) writeFileSync(join(fake, "sys/net/ipv4", name), "");
    const options = { args: ["true"], root, mounts: [volume(fake, "/vol")] };
    await expect(box.run(options)).rejects.toThrow(/\/proc/);
    await box.run({ ...options, alter: without((step) => step.op === "expect_fs") });
    expect(readFileSync(join(fake, "sys/net/ipv4/ip_unprivileged_port_start"), "utf8")).toBe("0");
  });

  it.each(["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper", "/sys/kernel/mm/ksm/run"].filter(existsSync))(
    "%s cannot be opened for writing",
    async (path) => {
      expect((await attack(["open-write", path])).tried).toEqual({ [path]: "EROFS" });
      expect((await attack(["open-write", path], host({ Privileged: true }))).tried).toEqual({ [path]: "ok" });
    },
  );

  it("release_agent: a cgroup hierarchy cannot be mounted", async () => {
    expect((await attack(["release-agent"])).tried).toEqual({ mount: "EPERM" });
    const weak = await attack(["release-agent"], host({ CapAdd: ["SYS_ADMIN"], SecurityOpt: ["seccomp=unconfined"] }));
    // The kernel has the hierarchy, or has not: it is not refused.
    expect(["ok", "EBUSY", "EINVAL"]).toContain(weak.tried["mount"]);
  });

  const device = ["10", "229"]; // /dev/fuse: to open it acts on nothing
  it("device creation: a node can be made, not opened", async () => {
    expect((await attack(["node", ...device])).tried).toEqual({ mknod: "ok", open: "EPERM" });
    expect((await attack(["node", ...device], host({ DeviceCgroupRules: ["c 10:229 rwm"] }))).tried).toEqual({ mknod: "ok", open: "ok" });
    expect((await attack(["node", ...device], host({ CapDrop: ["MKNOD"], DeviceCgroupRules: ["c 10:229 rwm"] }))).tried["mknod"]).toBe("EPERM");
  });

  it("open_by_handle_at is refused by the filter, and by the capability that is missing", async () => {
    const open = (hostConfig: Partial<HostConfig>) => attack(["by-handle", "/etc/hosts"], host(hostConfig)).then(({ tried }) => tried["open_by_handle_at"]);
    expect(await open({})).toBe("EPERM");
    expect(await open({ SecurityOpt: ["seccomp=unconfined"] })).toBe("EPERM");
    expect(await open({ SecurityOpt: ["seccomp=unconfined"], CapAdd: ["DAC_READ_SEARCH"] })).toBe("ok");
  });

  it("keyring: keyctl is refused, and the session keyring is not the engine's", async () => {
    expect((await attack(["keyring"])).tried["keyctl"]).toBe("EPERM");
    const unconfined = host({ SecurityOpt: ["seccomp=unconfined"] });
    const id = async (alter?: RunOptions["alter"]) => {
      const { stdout } = await attack(["keyring"], { ...unconfined, ...(alter === undefined ? {} : { alter }) });
      return stdout.split("\n")[1];
    };
    const inherit = without((step) => step.op === "keyring");
    expect(await id()).not.toBe(await id());
    expect(await id(inherit)).toBe(await id(inherit));
  });

  it("TIOCSTI: there is no terminal of somebody else's to type into", async () => {
    expect((await attack(["tiocsti"])).tried).toEqual({ tty: "ENXIO", tiocsti: "ENOTTY", controlling: "ENOTTY" });
    // With one of its own, it has its own: what it types there only it reads.
    const own = await box.start({ args: ["attack", "tiocsti"], config: { Tty: true } });
    const { stdout } = await own.finish();
    expect(stdout).toContain("tty ok");
  });

  it("ptrace of the joining process: nothing of an exec can be seen or traced before it is the program", async () => {
    const joining = async (...weaken: Step[]) => {
      const target = await startWatcher(box, { args: ["attack", "watch"] });
      // A pause where it has the container's own rights already: the best moment to attack it.
      const pause = child({ op: "hook", path: "/bin/sleep", argv: ["sleep", "1"], envp: [], head: new Uint8Array(), tail: new Uint8Array(), timeout_ms: 0 });
      const joined = box.exec(target, ["true"], { alter: (steps) => before(steps, "exec", ...weaken, pause) });
      if (weaken.length === 0) await joined;
      // It may be held by who traces it, and ends with it.
      else await Promise.race([joined, until(() => target.output().stdout.includes("ptrace"))]).catch(() => undefined);
      const seen = await endWatcher(target);
      await joined.catch(() => undefined);
      return seen;
    };
    expect(await joining()).toEqual({ seen: "ok", end: "" });
    expect(await joining(child({ op: "prctl", option: PR.SET_DUMPABLE, arg: 1n }))).toMatchObject({
      seen: "ok",
      mem: "ok",
      environ: "ok",
      "fd/0": "ok",
      ptrace: "ok",
    });
  });

  it("fork bomb: ends at its limit", async () => {
    const bomb = (PidsLimit: number | null) => attack(["forks", "200"], host({ PidsLimit })).then(({ stdout }) => Number(stdout.trim()));
    expect(await bomb(40)).toBeLessThan(40);
    expect(await bomb(null)).toBe(200);
  });

  it("descriptor exhaustion: ends at its limit", async () => {
    const files = (Ulimits: HostConfig["Ulimits"]) => attack(["files", "300"], host({ Ulimits })).then(({ stdout }) => Number(stdout.trim()));
    expect(await files([{ Name: "nofile", Soft: 64, Hard: 64 }])).toBeLessThan(64);
    expect(await files([{ Name: "nofile", Soft: 1024, Hard: 1024 }])).toBe(300);
  });

  it("a process that ignores signals is ended all the same", async () => {
    const stubborn = await box.start({ args: ["sh", "-c", "trap '' TERM INT HUP; echo up; while :; do sleep 1; done"] });
    await until(() => stubborn.output().stdout.includes("up"));
    await stubborn.link.kill(15);
    await sleep(100);
    expect(existsSync(`/proc/${stubborn.link.pid}`)).toBe(true);
    await stubborn.link.kill(9);
    expect(await stubborn.finish()).toMatchObject({ code: 137, signal: 9 });
  });

  it("exec into a root without /dev/null lends none of the host's devices as stdin", async () => {
    const target = await box.start({ args: ["sh", "-c", "rm /dev/null; echo x > /dev/null; echo up; sleep 20"] });
    await until(() => target.output().stdout.includes("up"));
    expect((await box.exec(target, ["attack", "stdin"])).stdout).toBe("pipe\n");
    await target.link.kill(9);
    await target.finish();
    expect((await attack(["stdin"])).stdout).toBe("device\n"); // its own
    expect(statSync("/dev/null").isCharacterDevice()).toBe(true);
  });
});
