/** wherry-runtime and the host's cgroups, whichever they are: by path, and with --systemd-cgroup where systemd is the first process (in a VM: scripts/test-vm.mjs). */
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { afterAll, describe, expect, test } from "vitest";
import { probeHost } from "#linux/probe-host.ts";
import { RuntimeUnderTest, wherryRuntime } from "./oci-runtime.fixture.ts";

const { cgroup } = await probeHost();
const missing = process.getuid?.() !== 0 ? "needs root" : existsSync("/bin/busybox") ? undefined : "needs /bin/busybox";
const systemd = existsSync("/run/systemd/system") && cgroup.mode === "v2";
const runtime = new RuntimeUnderTest(wherryRuntime);

const drivers = [
  {
    name: "cgroupfs",
    flags: [] as string[],
    path: (name: string) => `${runtime.cgroupParent}/${name}`,
    where: (name: string) => `${runtime.cgroupParent}/${name}`,
  },
  {
    name: "systemd",
    flags: ["--systemd-cgroup"],
    path: (name: string) => `wherryoci.slice:test:${name}`,
    where: (name: string) => `/wherryoci.slice/test-${name}.scope`,
  },
];

if (missing !== undefined) test.skip(`wherry-runtime and cgroups: ${missing}`, () => undefined);
else {
  afterAll(() => runtime.dispose());

  for (const { name: driver, flags, path, where } of drivers) {
    const given = driver === "cgroupfs" || systemd ? test : test.skip;
    describe(`cgroup driver ${driver}`, () => {
      given("create, start, exec, update, kill, delete: in the cgroup that the spec names, and nothing left of it", async () => {
        const [id, name] = [runtime.id(), randomBytes(4).toString("hex")];
        const bundle = runtime.bundle("exec sleep 1000", (spec) => {
          if (spec.linux !== undefined) spec.linux = { ...spec.linux, cgroupsPath: path(name), resources: { ...spec.linux.resources, pids: { limit: 17 } } };
        });
        const ok = (...args: string[]) => {
          const answer = runtime.call([...flags, ...args]);
          expect(answer.stderr).toBe("");
          expect(answer.code).toBe(0);
          return answer.stdout;
        };
        expect(runtime.create(id, bundle, [], flags)).toEqual({ code: 0, stdout: "", stderr: "" });
        ok("start", id);
        const { pid } = JSON.parse(ok("state", id)) as { pid: number };
        const cgroups = readFileSync(`/proc/${pid}/cgroup`, "utf8");
        expect(cgroups).toContain(`:${where(name)}\n`);
        const dir = cgroup.mode === "v2" ? `/sys/fs/cgroup${where(name)}` : `${cgroup.v1["pids"]}${where(name)}`;
        expect(readFileSync(`${dir}/pids.max`, "utf8")).toBe("17\n");
        expect(ok("exec", id, "sh", "-c", "echo from $0")).toBe("from sh\n");
        ok("update", "--pids-limit", "23", id);
        expect(readFileSync(`${dir}/pids.max`, "utf8")).toBe("23\n");
        ok("pause", id);
        ok("resume", id);
        ok("kill", id, "KILL");
        await expect.poll(() => runtime.status(id)).toBe("stopped");
        ok("delete", "--force", id);
        expect(existsSync(dir)).toBe(false);
      });

      given("run with an end of its own: the exit code comes back and the cgroup is gone", () => {
        const name = randomBytes(4).toString("hex");
        const bundle = runtime.bundle("cat /proc/self/cgroup; exit 7", (spec) => {
          if (spec.linux !== undefined) spec.linux = { ...spec.linux, cgroupsPath: path(name) };
        });
        const { code, stderr } = runtime.call([...flags, "run", "--bundle", bundle, runtime.id()]);
        expect([code, stderr]).toEqual([7, ""]);
        const dir = cgroup.mode === "v2" ? `/sys/fs/cgroup${where(name)}` : `${cgroup.v1["pids"]}${where(name)}`;
        expect(existsSync(dir)).toBe(false);
      });
    });
  }

  test("--systemd-cgroup is refused with a reason where it cannot be", () => {
    if (systemd) {
      const bundle = runtime.bundle("true", (spec) => {
        if (spec.linux !== undefined) spec.linux.cgroupsPath = "/a/path";
      });
      expect(runtime.call(["--systemd-cgroup", "run", "--bundle", bundle, runtime.id()]).stderr).toContain(
        'expected cgroupsPath to be of format "slice:prefix:name"',
      );
    } else {
      const bundle = runtime.bundle("true", (spec) => {
        if (spec.linux !== undefined) spec.linux.cgroupsPath = "system.slice:test:x";
      });
      expect(runtime.call(["--systemd-cgroup", "run", "--bundle", bundle, runtime.id()]).stderr).toMatch(
        /cgroup driver systemd (needs systemd as the first process|works on cgroup v2 only)/,
      );
    }
  });
}
