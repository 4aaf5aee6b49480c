import { test } from "vitest";
import { probeHost } from "#linux/probe-host.ts";
import { cgroupManagerSuite } from "./cgroup-manager.suite.ts";
import { nativeHelper } from "./native-helper.ts";

const facts = await probeHost();
const reason =
  process.getuid?.() !== 0
    ? "needs root"
    : facts.cgroup.mode === "v1" || facts.cgroup.mode === "hybrid"
      ? undefined
      : `this host has cgroup ${facts.cgroup.mode}`;

if (reason !== undefined) test.skip(`CgroupManager v1: ${reason}`, () => undefined);
else {
  cgroupManagerSuite("v1", {
    facts,
    helperPath: nativeHelper(),
    controls: { memory: "memory.limit_in_bytes", pids: "pids.max", shares: { file: "cpu.shares", of2048: "2048" } },
  });
}
