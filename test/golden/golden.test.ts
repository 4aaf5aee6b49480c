/**
 * Plans as text, reviewed like code: `test/golden/<case>/input.json` and `facts.json` must give `plan.txt`. A change of the planner shows as a
 * diff of what containers are. WHERRY_UPDATE_GOLDEN=1 rewrites plan.txt.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { openCgroups } from "#cgroup/mod.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { buildSpec, explainPlan, planContainer, planExec, resolveUser, type SpecInput, seccompProgram, slots } from "#runtime/mod.ts";
import type { RootMountData } from "#runtime/root-mount.ts";
import { exampleConfig, exampleHostConfig } from "../../src/runtime/example.fixture.ts";

interface Case {
  readonly about: string;
  readonly config?: Partial<SpecInput["config"]>;
  readonly hostConfig?: Partial<SpecInput["hostConfig"]>;
  readonly args?: string[];
  readonly mounts?: SpecInput["mounts"];
  readonly join?: NonNullable<SpecInput["join"]>;
  readonly devices?: NonNullable<SpecInput["devices"]>;
  readonly userns?: SpecInput["userns"];
  readonly root?: RootMountData;
  readonly initBinary?: string;
  readonly attachGate?: boolean;
  /** Plan an exec into the container instead of its start. */
  readonly exec?: { readonly pid: number; readonly startTime: number };
}

const passwd = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www:/var/www:/bin/sh\n";
const group = "root:x:0:\nwww-data:x:33:\nmail:x:8:www-data\n";
const id = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
const overlay: RootMountData = {
  kind: "overlay",
  lower: ["/var/lib/wherry/overlay2/c1-init/diff", "/var/lib/wherry/overlay2/base/diff"],
  links: ["l/INIT", "l/BASE"],
  linkDir: "/var/lib/wherry/overlay2",
  upper: "/var/lib/wherry/overlay2/c1/diff",
  work: "/var/lib/wherry/overlay2/c1/work",
  options: [],
};

function render(input: Case, facts: HostFacts): string {
  const config = { ...exampleConfig, ...input.config };
  const hostConfig = { ...exampleHostConfig, ...input.hostConfig };
  const { spec, files, warnings } = buildSpec({
    id,
    config,
    hostConfig,
    args: input.args ?? ["sh"],
    user: resolveUser(config.User, passwd, group, hostConfig.GroupAdd ?? []),
    mounts: input.mounts ?? [],
    files: { hostname: "/run/wherry/c1/hostname", hosts: "/run/wherry/c1/hosts", resolvConf: "/run/wherry/c1/resolv.conf" },
    cgroupsPath: `/wherry/${id}`,
    facts,
    userns: input.userns,
    ...(input.join === undefined ? {} : { join: input.join }),
    ...(input.devices === undefined ? {} : { devices: input.devices }),
  });
  const cgroups = openCgroups(facts);
  const cgroup = cgroups.plan("", id, spec.linux?.resources ?? {}, slots.cgroup);
  const seccomp = seccompProgram(spec.linux?.seccomp, facts);
  const attachGate = input.attachGate ?? false;
  const plan =
    input.exec === undefined
      ? planContainer({
          spec,
          root: input.root ?? overlay,
          facts,
          cgroup,
          network: [],
          tty: config.Tty,
          seccomp,
          attachGate,
          files,
          id,
          ...(input.initBinary === undefined ? {} : { initBinary: input.initBinary }),
        })
      : planExec({
          target: { pid: input.exec.pid, startTime: BigInt(input.exec.startTime) },
          process: spec.process,
          namespaces: (spec.linux?.namespaces ?? []).map((n) => n.type),
          facts,
          cgroup: cgroups.planJoin(cgroup.paths, slots.cgroup),
          tty: config.Tty,
          seccomp,
          attachGate,
          userns: spec.linux?.uidMappings !== undefined,
          id,
        });
  return [...[...warnings, ...cgroup.warnings].map((w) => `WARNING: ${w}\n`), explainPlan(plan)].join("");
}

const here = new URL(".", import.meta.url).pathname;
const cases = readdirSync(here, { withFileTypes: true }).filter((entry) => entry.isDirectory());

describe("golden plans", () => {
  it("has the cases", () => expect(cases.length).toBeGreaterThanOrEqual(12));
  it.each(cases.map((entry) => entry.name))("%s", (name) => {
    const read = (file: string): unknown => JSON.parse(readFileSync(`${here}/${name}/${file}`, "utf8"));
    const input = read("input.json") as Case;
    const text = `${input.about}\n\n${render(input, read("facts.json") as HostFacts)}`;
    const golden = `${here}/${name}/plan.txt`;
    if (process.env["WHERRY_UPDATE_GOLDEN"] === "1") writeFileSync(golden, text);
    expect(existsSync(golden), `${golden} is missing: run with WHERRY_UPDATE_GOLDEN=1 and review it`).toBe(true);
    expect(text).toBe(readFileSync(golden, "utf8"));
  });
});
