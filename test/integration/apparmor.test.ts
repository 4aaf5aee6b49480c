/** AppArmor through the engine; where the kernel runs without it, that it is said. The profile itself is seen in the VM (test/vm/apparmor.vm.json). */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { probeHost } from "#linux/probe-host.ts";
import { TestEngine, until } from "./engine-setup.ts";

const { lsm } = await probeHost();
const root = process.getuid?.() === 0;
const on = lsm.includes("apparmor") && existsSync("/sbin/apparmor_parser");

describe.skipIf(!root)("AppArmor", () => {
  let t: TestEngine;
  beforeAll(async () => {
    t = await TestEngine.open();
  });
  afterAll(async () => await t?.[Symbol.asyncDispose]());

  const label = "cat /proc/self/attr/current";

  test.skipIf(lsm.includes("apparmor"))("a kernel without it: a profile is warned of, and there is none", async () => {
    const { id, warnings } = await t.engine.containers.create(t.request("busybox", ["true"], {}, { SecurityOpt: ["apparmor=mine"] }));
    expect(warnings).toEqual(['This kernel runs without AppArmor: the container runs without the profile "mine".']);
    expect(t.engine.containers.get(id).appArmorProfile).toBeUndefined();
  });

  test.skipIf(!on)("a container and its exec have the default profile, which denies what else would be allowed", async () => {
    const host = { CapAdd: ["SYS_ADMIN"], SecurityOpt: ["seccomp=unconfined"] };
    const script = `${label}; mount -t tmpfs x /mnt 2>&1; sleep 60`;
    const id = await t.start(["sh", "-c", `mkdir -p /mnt; ${script}`], {}, host);
    await until(async () => (await t.logs(id)).out.includes("mount"));
    expect((await t.logs(id)).out).toMatch(/^wherry-default \(enforce\)\nmount: .*(denied|permitted)/i);
    expect((await t.exec(id, ["sh", "-c", label])).out).toBe("wherry-default (enforce)\n");
    expect((await t.exec(id, ["sh", "-c", label], { Privileged: true })).out).toBe("unconfined\n");
    expect(t.engine.containers.get(id).appArmorProfile).toBe("wherry-default");
    expect((await t.engine.system.info()).securityOptions).toContain("name=apparmor");
    const weak = await t.run(
      ["sh", "-c", `${label}; mkdir -p /mnt; mount -t tmpfs x /mnt && echo mounted`],
      {},
      { ...host, SecurityOpt: [...host.SecurityOpt, "apparmor=unconfined"] },
    );
    expect(weak.out).toBe("unconfined\nmounted\n");
    expect((await t.run(["sh", "-c", label], {}, { Privileged: true })).out).toBe("unconfined\n");
  });

  test.skipIf(!on)("a profile of one's own, also with no-new-privileges; one that is not loaded is an error", async () => {
    const dir = mkdtempSync(join(tmpdir(), "wherry-aa-"));
    const file = join(dir, "profile");
    writeFileSync(file, "profile wherry-test-own flags=(attach_disconnected) {\n  file,\n  capability,\n  signal,\n  deny /etc/secret r,\n}\n");
    execFileSync("/sbin/apparmor_parser", ["-Kr", file]);
    try {
      const script = `${label}; touch /etc/secret; cat /etc/secret 2>&1`;
      for (const more of [[], ["no-new-privileges"]])
        expect((await t.run(["sh", "-c", script], {}, { SecurityOpt: ["apparmor=wherry-test-own", ...more] })).out).toMatch(
          /^wherry-test-own \(enforce\)\n.*Permission denied/,
        );
    } finally {
      execFileSync("/sbin/apparmor_parser", ["-R", file]);
      rmSync(dir, { recursive: true });
    }
    await expect(t.run(["true"], {}, { SecurityOpt: ["apparmor=not-loaded"] })).rejects.toThrow("AppArmor profile not-loaded");
  });
});
