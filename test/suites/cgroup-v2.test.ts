import { test } from "vitest";
import { probeHost } from "#linux/probe-host.ts";
import { cgroupManagerSuite } from "./cgroup-manager.suite.ts";
import { nativeHelper } from "./native-helper.ts";

const facts = await probeHost();
const reason =
  process.getuid?.() !== 0
    ? "needs root"
    : facts.cgroup.mode === "v2"
      ? undefined
      : `this host has cgroup ${facts.cgroup.mode}; scripts/test-vm.mjs runs it in a VM`;

if (reason !== undefined) test.skip(`CgroupManager v2: ${reason}`, () => undefined);
else {
  cgroupManagerSuite("v2", {
    facts,
    helperPath: nativeHelper(),
    controls: { memory: "memory.max", pids: "pids.max", shares: { file: "cpu.weight", of2048: "174" } },
  });
}
