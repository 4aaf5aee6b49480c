/**
 * Mutated OCI specs and create bodies through everything that reads them, up to the plan's bytes. A refusal is an EngineError; anything else that is thrown
 * is a find. `node spec.mjs SECONDS SEED CORPUS`, bundled by scripts/fuzz.mjs; the seed repeats a run.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseCreateBody } from "#api/types/container-create.ts";
import { isEngineError } from "#core/errors.ts";
import type { OciSpec } from "#core/runtime-spec.ts";
import { encodePlan } from "#linux/encode.ts";
import { buildSpec, planContainer, resolveUser, seccompProgram } from "#runtime/mod.ts";
import { readBundle } from "../../src/bin/runtime/bundle.ts";
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

const planned = (spec: OciSpec, files: ReadonlySet<string>): void => {
  const plan = planContainer({
    spec,
    root: { kind: "bind", source: "/b/rootfs", readonly: false },
    facts: exampleFacts,
    cgroup: undefined,
    network: [],
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
    planned(readBundle(directory), new Set());
  },
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
