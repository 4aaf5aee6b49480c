/**
 * cgroup v2: one directory; processes live only in its leaves, and a controller works where every cgroup above has passed it on.
 * @module
 * @see cgroups(7) "Cgroups version 2"
 */
import { constants } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { OciResources } from "#core/runtime-spec.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";
import { ancestry, homePath, parentPath } from "../cgroup-path.ts";
import { keyedIn, mkdirStep, numberIn, readControl, writeControl, writeStep, writeUnlessGone } from "../control-files.ts";
import { devicePolicy } from "../device-rules.ts";
import type { CgroupManager, CgroupPaths, CgroupPlan } from "../mod.ts";
import { killOnce, processesOf, removed, removeTree, until } from "../processes.ts";
import { dropUnsupported, infoFlags, infoWarnings, type LimitSupport } from "../support.ts";
import { compileDeviceProgram } from "./device-program.ts";
import { limitWrites } from "./limits.ts";
import { readStats } from "./stats.ts";
import { probeSupport } from "./support.ts";

const FREEZE_TIMEOUT_MS = 10_000;
const KILL_TIMEOUT_MS = 10_000;
/** The controllers that containers use. */
const WANTED: readonly string[] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];

export function openV2(facts: HostFacts, options: { readonly parent: string; readonly ownParent: boolean }): CgroupManager {
  const root = (facts.cgroup.v2Root ?? "/sys/fs/cgroup").replace(/\/+$/, "");
  const home = homePath(options.parent);
  let known: LimitSupport | undefined;
  const support = (): LimitSupport => {
    known ??= probeSupport(facts, root + home);
    return known;
  };

  const born = (dir: string, slot: number): Pick<CgroupPlan, "cloneInto" | "join"> => ({
    cloneInto: {
      slot,
      steps: [
        {
          op: "openat",
          where: "host",
          dir: NO_SLOT,
          path: dir,
          flags: BigInt(constants.O_RDONLY | constants.O_DIRECTORY),
          mode: 0,
          out: slot,
          why: "the container is born in its cgroup (CLONE_INTO_CGROUP)",
          see: "clone(2)",
          section: "cgroups",
        },
      ],
    },
    join: [],
  });

  return {
    driver: "cgroupfs",
    version: 2,

    async prepare(parent = "") {
      for (const path of new Set([home, parentPath(parent, home)])) await makeParent(root, path);
      known = undefined; // controllers' files exist from here on
    },

    plan(parent, name, resources, slot): CgroupPlan {
      if (!/^[A-Za-z0-9_.-]+$/.test(name) || name.startsWith(".")) throw new EngineError("invalid", `invalid cgroup name "${name}"`);
      const has = support();
      const { resources: possible, warnings } = dropUnsupported(resources, has);
      const dir = `${root}${parentPath(parent, home)}/${name}`;
      return {
        paths: { version: 2, dirs: { "": dir } },
        create: [mkdirStep(dir, "the container's cgroup"), ...limitWrites(possible, has).map((write) => writeStep(dir, write)), ...deviceSteps(dir, possible)],
        ...born(dir, slot),
        exitReports: has.memory ? [`${dir}/memory.events`, `${dir}/memory.peak`, `${dir}/memory.pressure`] : [],
        warnings,
      };
    },

    planJoin: (paths, slot) => born(directoryOf(paths), slot),

    async update(paths, resources: OciResources) {
      const dir = directoryOf(paths);
      const { resources: possible } = dropUnsupported(resources, support());
      await checkUsage(dir, possible);
      for (const { file, value } of limitWrites(possible, support())) await writeControl(`${dir}/${file}`, value);
    },

    async freeze(paths) {
      const dir = directoryOf(paths);
      await writeControl(`${dir}/cgroup.freeze`, "1");
      const frozen = await until(async () => {
        const events = await readControl(`${dir}/cgroup.events`);
        if (events === undefined) throw new EngineError("not-found", `no such cgroup: ${dir}`);
        return keyedIn(events)["frozen"] === 1;
      }, FREEZE_TIMEOUT_MS);
      if (frozen) return;
      await writeControl(`${dir}/cgroup.freeze`, "0");
      throw new EngineError("kernel", `cannot freeze ${dir}: a process does not stop (it may wait for a disk or network that does not answer)`);
    },

    async thaw(paths) {
      await writeControl(`${directoryOf(paths)}/cgroup.freeze`, "0");
    },

    async kill(paths) {
      const dir = directoryOf(paths);
      // SIGKILL reaches frozen processes too. Without cgroup.kill (before 5.14), a fork may slip between list and signal: hence the loop.
      const empty = await until(async () => {
        if ((await processesOf(dir)).length === 0) return true;
        if (!facts.cgroup.kill) await killOnce(dir);
        // systemd removes a scope as soon as it is empty: perhaps since we looked.
        else if (!(await writeUnlessGone(`${dir}/cgroup.kill`, "1"))) return true;
        return false;
      }, KILL_TIMEOUT_MS);
      if (!empty) throw new EngineError("kernel", `processes in ${dir} do not end after SIGKILL: ${(await processesOf(dir)).slice(0, 10).join(", ")}`);
    },

    pids: async (paths) => await processesOf(directoryOf(paths)),
    stats: async (paths) => await readStats(directoryOf(paths), facts.memoryBytes),
    remove: async (paths) => await removeTree(directoryOf(paths)),
    wasOomKilled: (reports) => reports.some((text) => /^oom_kill [1-9]/m.test(text ?? "")),

    async orphans(keep) {
      const children = await readdir(root + home, { withFileTypes: true }).catch((error: unknown) => {
        if (errnoOf(error) === "ENOENT") return [];
        throw error;
      });
      return children
        .filter((entry) => entry.isDirectory() && !keep.has(entry.name))
        .map(({ name }): CgroupPaths => ({ version: 2, dirs: { "": `${root}${home}/${name}` } }));
    },

    async close() {
      if (options.ownParent) await removed(root + home);
    },

    info: () => ({ flags: infoFlags(support()), warnings: infoWarnings(support()) }),
  };
}

function directoryOf({ dirs }: CgroupPaths): string {
  const dir = dirs[""];
  if (dir === undefined) throw new EngineError("internal", "the container's cgroup paths are not of cgroup v2");
  return dir;
}

/** Nothing restricted, no program: then what is attached further up decides alone. */
function deviceSteps(dir: string, { devices }: OciResources): Step[] {
  if (devices === undefined) return [];
  const policy = devicePolicy(devices);
  if (policy.allowByDefault && policy.exceptions.length === 0) return [];
  const why = `device control: ${policy.allowByDefault ? "all" : "none"} but ${policy.exceptions.length} entries; a BPF program decides at each open and mknod`;
  return [
    { op: "bpf_device", where: "host", dir: NO_SLOT, path: dir, program: compileDeviceProgram(policy), why, see: "kernel: cgroup-v2, Device controller" },
  ];
}

/** Makes each level and passes the controllers on, from the top down. */
async function makeParent(root: string, path: string): Promise<void> {
  await passOn(root);
  for (const level of ancestry(path)) {
    await mkdir(root + level, { recursive: true, mode: 0o755 });
    await passOn(root + level);
  }
}

async function passOn(dir: string): Promise<void> {
  const words = async (file: string) => ((await readControl(`${dir}/${file}`)) ?? "").split(" ").filter((word) => word !== "");
  const enabled = new Set(await words("cgroup.subtree_control"));
  const missing = (await words("cgroup.controllers")).filter((controller) => WANTED.includes(controller) && !enabled.has(controller));
  if (missing.length === 0) return;
  try {
    await writeControl(`${dir}/cgroup.subtree_control`, missing.map((controller) => `+${controller}`).join(" "));
  } catch (error) {
    throw new EngineError("kernel", `cannot pass the controllers ${missing.join(", ")} on below ${dir}`, {
      cause: error,
      hint: `a cgroup with controllers for its children may hold no processes itself; processes in ${dir}: ${(await readControl(`${dir}/cgroup.procs`))?.split("\n").length ?? 0}`,
    });
  }
}

/** As the kernel does it for v1 by itself; here it would call the OOM killer. */
async function checkUsage(dir: string, { memory }: OciResources): Promise<void> {
  const { checkBeforeUpdate = false, limit = 0 } = memory ?? {};
  if (!checkBeforeUpdate || limit <= 0) return;
  const used = numberIn(await readControl(`${dir}/memory.current`));
  if (used > limit) throw new EngineError("invalid", `unable to set memory limit to ${limit} (current usage: ${used})`);
}
