/** net_cls and net_prio of cgroup v1, mounted in a mount namespace of the test's own; and what is said where they are not. */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestEngine } from "./engine-setup.ts";
import { inOwnHost, sh } from "./own-host.fixture.ts";

const controllers = readFileSync("/proc/cgroups", "utf8");

inOwnHost(import.meta.filename, "packets' classes and priorities", [], () => {
  let t: TestEngine;
  beforeAll(async () => {
    t = await TestEngine.open();
  });
  afterAll(() => t[Symbol.asyncDispose]());

  test("refused where the controllers are not mounted", async () => {
    const why = (controller: string) => expect.objectContaining({ code: "unsupported", message: expect.stringContaining(`the controller ${controller}: `) });
    await expect(t.create(["true"], {}, { WherryNetworkClassId: 0x1_0001 })).rejects.toEqual(why("net_cls"));
    await expect(t.create(["true"], {}, { WherryNetworkPriorities: { lo: 7 } })).rejects.toEqual(why("net_prio"));
    await expect(t.create(["true"], {}, { WherryNetworkClassId: 2 ** 32 })).rejects.toMatchObject({ code: "invalid" });
    await expect(t.create(["true"], {}, { WherryNetworkPriorities: { "a/b": 7 } })).rejects.toMatchObject({ code: "invalid" });
    const id = await t.start(["sleep", "1000"]);
    await expect(t.engine.containers.update(id, { WherryNetworkClassId: 1 }, undefined)).rejects.toEqual(why("net_cls"));
    await t.removeAll();
  });

  if (!/^net_cls\s.*1$/m.test(controllers) || !/^net_prio\s.*1$/m.test(controllers)) {
    test.skip("set, and changed while it runs: this kernel has no net_cls and net_prio of cgroup v1", () => undefined);
    return;
  }

  test("set, and changed while it runs", async () => {
    const hierarchy = sh("d=$(mktemp -d) && mount -t cgroup -o net_cls,net_prio none $d && printf %s $d");
    try {
      await t.reopen();
      const id = await t.start(["sleep", "1000"], {}, { NetworkMode: "host", WherryNetworkClassId: 0x1_0001, WherryNetworkPriorities: { lo: 7 } });
      const group = `${hierarchy}${t.options.cgroupParent}/${id}`;
      const file = (name: string) => readFileSync(`${group}/${name}`, "utf8");
      expect(file("cgroup.procs").trim()).toBe(String(t.engine.containers.get(id).state.pid));
      expect(file("net_cls.classid").trim()).toBe(String(0x1_0001));
      expect(file("net_prio.ifpriomap")).toMatch(/^lo 7$/m);
      await t.engine.containers.update(id, { WherryNetworkClassId: 0x1_0002, WherryNetworkPriorities: { lo: 0 } }, undefined);
      expect(file("net_cls.classid").trim()).toBe(String(0x1_0002));
      expect(file("net_prio.ifpriomap")).toMatch(/^lo 0$/m);
      await t.engine.containers.update(id, { Memory: 64 << 20 }, undefined);
      expect(t.engine.containers.get(id).hostConfig).toMatchObject({ WherryNetworkClassId: 0x1_0002, WherryNetworkPriorities: { lo: 0 } });
    } finally {
      await t.removeAll();
      await t.engine.close();
      sh(`rmdir ${hierarchy}${t.options.cgroupParent}; umount ${hierarchy}; rmdir ${hierarchy}`);
      await t.reopen();
    }
  });
});
