/** Flags of `wherry-runtime` that other engines may pass and seldom do, each by its effect. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { OciSpec } from "#core/runtime-spec.ts";
import { probeHost } from "#linux/probe-host.ts";
import { compileAttack } from "../attacks/attack-program.fixture.ts";
import { RuntimeUnderTest, wherryRuntime } from "./oci-runtime.fixture.ts";

const able = process.getuid?.() === 0 && existsSync(wherryRuntime) && existsSync("/bin/busybox");
if (!able) console.warn("skipped: the flags of wherry-runtime need root, a build and busybox-static");

describe.skipIf(!able)("flags of wherry-runtime", () => {
  const runtime = new RuntimeUnderTest(wherryRuntime);
  afterAll(() => runtime.dispose());

  it("--no-pivot: the same root, and the host's is out of sight", () => {
    const bundle = runtime.bundle("ls /; ls /proc/1/root/; cat /proc/self/mountinfo; cd /; cd ../../..; ls", (spec) => {
      spec.process.capabilities = { bounding: ["CAP_SYS_CHROOT"], effective: ["CAP_SYS_CHROOT"], permitted: ["CAP_SYS_CHROOT"] };
    });
    const { code, stdout, stderr } = runtime.call(["run", "--no-pivot", "--bundle", bundle, runtime.id()]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout.match(/^bin$/gm)).toHaveLength(3);
    expect(stdout).not.toMatch(/^(etc|var|home)$/m);
    expect(stdout).not.toContain(runtime.directory.concat("/state"));
  });

  it("--no-new-keyring: the program, and what is executed beside it, have the caller's session keyring", () => {
    const keyrings = (flags: readonly string[]) => {
      const id = runtime.id();
      const bundle = runtime.bundle("exec sleep 100");
      compileAttack(join(bundle, "rootfs/attack"));
      const script = runtime.bundle("/attack keyring");
      compileAttack(join(script, "rootfs/attack"));
      expect(runtime.create(id, bundle, flags)).toMatchObject({ code: 0 });
      runtime.call(["start", id]);
      const said = [runtime.call(["run", ...flags, "--bundle", script, runtime.id()]), runtime.call(["exec", id, "/attack", "keyring"])];
      runtime.call(["delete", "--force", id]);
      return said.map(({ stdout }) => stdout.split("\n")[1]);
    };
    const [run, exec] = keyrings(["--no-new-keyring"]);
    expect(Number(run)).toBeGreaterThan(0);
    expect(exec).toBe(run);
    for (const own of keyrings([])) expect(own).not.toBe(run);
  });

  it("hands descriptors of its caller on with --preserve-fds, and no others", () => {
    const bundle = runtime.bundle("ls /proc/self/fd; cat <&3");
    const script = 'exec 3<"$0" 4<"$0"; exec "$@"';
    const call = (...args: string[]) => {
      const words = ["-c", script, join(bundle, "config.json"), ...runtime.command, "--root", runtime.root, ...args];
      return spawnSync("sh", words, { encoding: "utf8", timeout: 30_000 });
    };
    const { stdout } = call("run", "--preserve-fds", "1", "--bundle", bundle, runtime.id());
    expect(stdout).toContain('"ociVersion"');
    expect(stdout).toMatch(/^0\n1\n2\n3\n4\n\{/); // 4 is what ls itself has open
    expect(call("run", "--bundle", bundle, runtime.id()).stdout).not.toContain("ociVersion");
  });

  it("exec: --cgroup names one below the container's, --apparmor and --process-label what the kernel must have", async () => {
    const id = runtime.id();
    const sleeper = runtime.bundle("sleep 100");
    runtime.create(id, sleeper);
    runtime.call(["start", id]);
    const { linux } = JSON.parse(readFileSync(join(sleeper, "config.json"), "utf8")) as OciSpec;
    const directories = [`/sys/fs/cgroup/pids${linux?.cgroupsPath}`, `/sys/fs/cgroup${linux?.cgroupsPath}`];
    const own = directories.find(existsSync) ?? "";
    mkdirSync(join(own, "sub"));
    const pids = own === directories[0] ? "pids:" : "";
    const seen = (...flags: string[]) => runtime.call(["exec", ...flags, id, "cat", "/proc/self/cgroup"]);
    expect(seen().stdout).not.toMatch(/\/sub$/m);
    expect(seen("--cgroup", `${pids}sub`).stdout.match(/^.*\/sub$/gm)).toHaveLength(1);
    expect(seen("--cgroup", `${pids}absent`)).toMatchObject({ code: 1, stderr: expect.stringMatching(/absent/) });
    expect(seen("--cgroup", "../..").stderr).toContain("not below the container's cgroup");
    expect(seen("--cgroup", "nothing:sub").stderr).toContain("no cgroup of a controller nothing");
    const { lsm } = await probeHost();
    if (!lsm.includes("apparmor")) expect(seen("--apparmor", "x").stderr).toMatch(/apparmorProfile "x" is not supported/);
    if (!lsm.includes("selinux")) expect(seen("--process-label", "a:b:c:s0").stderr).toMatch(/selinuxLabel "a:b:c:s0" is not supported/);
    runtime.call(["delete", "--force", id]);
    expect(existsSync(own)).toBe(false);
  });

  it("update by flags takes hold; by a file its shape and values are judged as a spec's", () => {
    const id = runtime.id();
    runtime.create(id, runtime.bundle("sleep 100"));
    runtime.call(["start", id]);
    expect(runtime.call(["update", "--pids-limit", "33", "--memory", "64m", "--cpu-period", "20000", "--cpu-quota", "10000", "--cpu-idle", "1", id])).toEqual({
      code: 0,
      stdout: "",
      stderr: "",
    });
    const { data } = JSON.parse(runtime.call(["events", "--stats", id]).stdout) as { data: { memory: { usage: { limit: number } }; pids: { limit: number } } };
    expect([data.pids.limit, data.memory.usage.limit]).toEqual([33, 64 << 20]);
    const update = (resources: object) => runtime.call(["update", "--resources", "-", id], JSON.stringify(resources)).stderr;
    expect(update({ pids: { limit: "many" } })).toContain("--resources: pids.limit is not a whole number");
    expect(update({ hugepageLimits: [{ pageSize: "../../pids.max", limit: 1 }] })).toContain("no huge pages of ../../pids.max");
    expect(runtime.call(["update", "--l3-cache-schema", "L3:0=f", id]).stderr).toContain("Intel RDT");
    runtime.call(["delete", "--force", id]);
  });

  it("list names containers, and one that is going is none", () => {
    const [id, half] = [runtime.id(), runtime.id()];
    runtime.create(id, runtime.bundle("sleep 100"));
    mkdirSync(join(runtime.root, half)); // as between its directory and its state
    expect(runtime.call(["list", "-q"])).toEqual({ code: 0, stdout: `${id}\n`, stderr: "" });
    expect(JSON.parse(runtime.call(["list", "--format", "json"]).stdout)).toMatchObject([{ id, status: "created", owner: "root" }]);
    runtime.call(["delete", "--force", id]);
    runtime.call(["delete", "--force", half]);
  });

  it("spec writes a bundle's config once; --rootless is refused, unless it says no", () => {
    const bundle = runtime.bundle("");
    rmSync(join(bundle, "config.json"));
    expect(runtime.call(["spec", "--bundle", bundle])).toEqual({ code: 0, stdout: "", stderr: "" });
    expect(JSON.parse(readFileSync(join(bundle, "config.json"), "utf8"))).toMatchObject({ ociVersion: "1.2.0", process: { terminal: true, args: ["sh"] } });
    expect(runtime.call(["spec", "--bundle", bundle]).stderr).toContain("config.json exists");
    expect(runtime.call(["--rootless=true", "list"]).stderr).toContain("needs root");
    for (const value of ["auto", "false"]) expect(runtime.call([`--rootless=${value}`, "list", "-q"]).code).toBe(0);
  });
});
