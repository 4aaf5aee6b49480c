/**
 * Mutated OCI specs and create bodies through everything that reads them, up to the plan's bytes. A refusal is an EngineError; anything else that is thrown
 * is a find. `node spec.mjs SECONDS SEED CORPUS`, bundled by scripts/fuzz.mjs; the seed repeats a run.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseCreateBody } from "#api/types/container-create.ts";
import { openCgroups } from "#cgroup/mod.ts";
import { dropUnsupported, type LimitSupport } from "#cgroup/support.ts";
import { limitWrites as v1Limits } from "#cgroup/v1/limits.ts";
import { isEngineError } from "#core/errors.ts";
import type { OciResources, OciSpec } from "#core/runtime-spec.ts";
import { encodePlan } from "#linux/encode.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { buildSpec, type PlanInput, planContainer, planExec, resolveUser, seccompFlags, seccompListener, seccompProgram } from "#runtime/mod.ts";
import { checkProcess, knownCapabilities, possibleAmbient, readBundle } from "../../src/bin/runtime/bundle.ts";
import { checkHooks, containerHooks } from "../../src/bin/runtime/hooks.ts";
import { checkProcessShape, checkResourcesShape } from "../../src/bin/runtime/spec-shape.ts";
import { checkLabels, checkResources, validate } from "../../src/bin/runtime/validate.ts";
import { exampleFacts } from "../../src/runtime/example.fixture.ts";

const [, , secondsText = "3", seedText = "1", corpus = ""] = process.argv;

/** mulberry32: small, and the same everywhere. */
let state = Number(seedText) >>> 0;
function random(below: number): number {
  state = (state + 0x6d2b79f5) >>> 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) % below;
}
const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T;

const oddities: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  1,
  2 ** 31,
  2 ** 32,
  2 ** 53,
  1e308,
  0.5,
  "",
  "/",
  "..",
  "/proc",
  "../../x",
  "a\0b",
  "\ud800",
  "x".repeat(300),
  [],
  {},
  [null],
  [[]],
  "__proto__",
  "rw,ro",
  "0x10",
  "NaN",
];

/** Changes one place of a JSON value, or several. */
function mutate(value: unknown, depth = 0): unknown {
  if (random(12) === 0 || depth > 12) return pick(oddities);
  if (Array.isArray(value)) {
    const list: unknown[] = [...(value as unknown[])];
    const what = random(4);
    if (list.length === 0 || what === 0) list.push(pick(oddities));
    else if (what === 1) list.splice(random(list.length), 1);
    else if (what === 2) list.push(structuredClone(pick(list)));
    else {
      const at = random(list.length);
      list[at] = mutate(list[at], depth + 1);
    }
    return list;
  }
  if (typeof value === "object" && value !== null) {
    const copy: Record<string, unknown> = { ...value };
    const keys = Object.keys(copy);
    const key = keys.length === 0 ? "x" : pick(keys);
    if (random(8) === 0) delete copy[key];
    else copy[key] = mutate(copy[key], depth + 1);
    return copy;
  }
  if (typeof value === "string" && value.length > 0) {
    const at = random(value.length);
    return pick([
      value.slice(0, at),
      value + value,
      value.slice(0, at) + pick(["/", "\0", ":", ",", "=", "..", "é", "%"]) + value.slice(at),
      value.toUpperCase(),
    ]);
  }
  if (typeof value === "number") return pick([value + 1, -value, value * 2 ** 32, value / 3, value]);
  return pick(oddities);
}

/** Hosts as far as a spec's fate depends on them: cgroup v2 without LSM, and v1 with all of its controllers, AppArmor and SELinux. */
const controllers = ["cpu", "cpuset", "memory", "pids", "devices", "blkio", "freezer", "hugetlb", "net_cls", "net_prio", "rdma"];
const hosts: readonly HostFacts[] = [
  exampleFacts,
  {
    ...exampleFacts,
    lsm: ["apparmor", "selinux"],
    cgroup: { mode: "v1", v1: Object.fromEntries(controllers.map((name) => [name, `/absent/${name}`])), v2Controllers: [], own: {}, kill: false },
  },
];
const everything = { memory: true, memoryReservation: true, swap: true, swappiness: true, oomKillDisable: true, kernelMemoryTcp: true, cpuShares: true };
const everyLimit: LimitSupport = {
  version: 1,
  ...everything,
  ...{ cpuCfs: true, cpuRealtime: true, cpuset: true, pids: true, devices: true, hugetlb: true },
  ...{ blkioWeight: "weight", blkioWeightDevice: "weight_device", readBps: true, writeBps: true, readIops: true, writeIops: true },
};

/** Does all of it, whatever is refused on the way; rejects with the first refusal. */
function each(...stages: readonly (() => unknown)[]): void {
  let refusal: unknown;
  for (const stage of stages) {
    try {
      stage();
    } catch (error) {
      if (!isEngineError(error)) throw error;
      refusal ??= error;
    }
  }
  if (refusal !== undefined) throw refusal;
}

/** What becomes of limits on both kinds of cgroups. */
const limited = (resources: OciResources = {}): void =>
  each(
    ...hosts.map((facts) => () => checkResources(resources, facts)),
    () => v1Limits(dropUnsupported(resources, everyLimit).resources, everyLimit),
    () => openCgroups(exampleFacts, { parent: "/fuzz" }).plan("", "c0ffee", resources, 5),
  );

const planned = (spec: OciSpec, files: ReadonlySet<string>, runtime: Partial<PlanInput> = {}): void => {
  const plan = planContainer({
    spec,
    root: { kind: "bind", source: "/b/rootfs", readonly: false },
    facts: exampleFacts,
    cgroup: undefined,
    network: [],
    ...runtime,
    tty: spec.process.terminal === true,
    seccomp: seccompProgram(spec.linux?.seccomp, exampleFacts),
    attachGate: false,
    files,
  });
  encodePlan(plan);
};

const directory = mkdtempSync(join(tmpdir(), "wherry-fuzz-spec-"));
const targets: Record<string, (value: unknown) => void> = {
  spec: (value) => {
    writeFileSync(join(directory, "config.json"), JSON.stringify(value) ?? "null");
    const spec = readBundle(directory, () => undefined);
    const { linux } = spec;
    const state = { ociVersion: "1.2.0", id: "c0ffee", pid: 0, status: "creating" as const, bundle: directory };
    each(
      () => checkHooks(spec),
      ...hosts.map((facts) => () => validate(spec, facts)),
      () => limited(linux?.resources),
      () =>
        planned(spec, new Set(), {
          detached: { fifo: "/fifo", preserveFds: 1, listener: seccompListener(linux?.seccomp, state) },
          hooks: { createContainer: containerHooks(spec, "createContainer", state), startContainer: containerHooks(spec, "startContainer", state) },
        }),
    );
  },
  process: (value) => {
    const given = checkProcessShape(value);
    checkProcess(given);
    const process = possibleAmbient(knownCapabilities(given, () => undefined));
    each(...hosts.map((facts) => () => checkLabels(process, facts)), () => {
      const plan = planExec({
        target: { pid: 2, startTime: 3n },
        process,
        namespaces: ["pid", "mount", "user"],
        facts: exampleFacts,
        cgroup: { join: [] },
        tty: process.terminal === true,
        seccomp: undefined,
        seccompFlags: seccompFlags(undefined),
        attachGate: false,
        userns: true,
      });
      encodePlan(plan);
    });
  },
  resources: (value) => limited(checkResourcesShape(value)),
  create: (value) => {
    const { config, hostConfig } = parseCreateBody(value, 40 + random(12));
    const { spec, files } = buildSpec({
      id: "c0ffee",
      config,
      hostConfig,
      args: config.Cmd ?? ["sh"],
      user: resolveUser(config.User, "root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\n", hostConfig.GroupAdd ?? []),
      mounts: [],
      files: {},
      cgroupsPath: "/wherry/c0ffee",
      join: { pid: 1, ipc: 1, network: 1, uts: 1 },
      facts: exampleFacts,
    });
    planned(spec, files);
  },
};

const seeds = readdirSync(corpus)
  .filter((name) => name.endsWith(".json"))
  .map((name) => ({ target: name.replace(/[-.].*$/, ""), value: JSON.parse(readFileSync(join(corpus, name), "utf8")) as unknown }));
const end = Date.now() + Number(secondsText) * 1000;
let [inputs, accepted] = [0, 0];
const finds = new Map<string, string>();
try {
  while (Date.now() < end && finds.size < 20) {
    const { target, value } = pick(seeds);
    let input = value;
    if (inputs >= seeds.length) for (let n = 1 + random(4); n > 0; n--) input = mutate(input);
    else input = seeds[inputs]?.value;
    const by = inputs < seeds.length ? (seeds[inputs]?.target ?? target) : target;
    inputs++;
    try {
      targets[by]?.(input);
      accepted++;
    } catch (error) {
      if (isEngineError(error)) continue;
      const { message, stack = "" } = error as Error;
      const where = stack.split("\n").find((line) => line.includes(" at ")) ?? "";
      if (!finds.has(where)) finds.set(where, `${by}: ${message}\n${stack.split("\n").slice(0, 4).join("\n")}\n${JSON.stringify(input).slice(0, 2000)}`);
    }
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
for (const find of finds.values()) console.error(find);
console.log(`${inputs} specs and bodies, ${accepted} accepted, ${finds.size} finds`);
process.exitCode = finds.size > 0 ? 1 : 0;
