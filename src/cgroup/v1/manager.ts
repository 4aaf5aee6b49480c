/**
 * cgroup v1 (and hybrid): one directory per hierarchy.
 * @module
 * @see cgroups(7) "Cgroups version 1"
 */
import { mkdir, readdir } from "node:fs/promises";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { OciResources } from "#core/runtime-spec.ts";
import type { Helper } from "#linux/helper.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { removeTogether } from "#linux/remove-together.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";
import { ancestry, homePath, parentPath } from "../cgroup-path.ts";
import { mkdirStep, readControl, writeControl, writeStep } from "../control-files.ts";
import type { CgroupManager, CgroupPaths, CgroupPlan } from "../mod.ts";
import { killOnce, processesOf, removed, removeTree, until } from "../processes.ts";
import type { CpuRealtime } from "../open-cgroups.ts";
import { dropUnsupported, infoFlags, infoWarnings, type LimitSupport } from "../support.ts";
import { controllersAt, directories, distinct, mountedControllers } from "./hierarchies.ts";
import { limitWrites } from "./limits.ts";
import { readStats } from "./stats.ts";
import { probeSupport } from "./support.ts";
import { updateLimits } from "./update.ts";

const FREEZE_TIMEOUT_MS = 10_000;
const KILL_TIMEOUT_MS = 10_000;
const zero = new TextEncoder().encode("0");

/**
 * Writing "0" to `tasks` moves the writer itself and, unlike a pid written to cgroup.procs, takes no lock that every fork of the machine
 * shares (kernel 5.5, cgroup_attach_lock): 0.01 ms per hierarchy against 4–9 ms for the first.
 */
function stepInto(dir: string, why: string, where: Step["where"] = "host"): Step {
  return { op: "write", where, dir: NO_SLOT, path: `${dir}/tasks`, flags: 0n, data: zero, why, see: "cgroups(7)", section: "cgroups" };
}

export function openV1(
  facts: HostFacts,
  options: { readonly parent: string; readonly ownParent: boolean; readonly cpuRealtime?: CpuRealtime; readonly helper?: Pick<Helper, "call"> },
): CgroupManager {
  const home = homePath(options.parent);
  const homeDirs = distinct(directories(facts.cgroup, home));
  let known: LimitSupport | undefined;
  const support = (): LimitSupport => {
    known ??= probeSupport(facts, home);
    return known;
  };

  /** In and out again: the monitor's way back is the parent of all containers, which is there as long as the engine is. */
  const visit = (dirs: Readonly<Record<string, string>>): Pick<CgroupPlan, "cloneInto" | "join"> => ({
    cloneInto: {
      slot: NO_SLOT,
      steps: distinct(dirs).map((dir) => stepInto(dir, `the container is born in its ${controllersAt(dirs, dir)} cgroup: its monitor steps in`)),
    },
    join: homeDirs.map((dir) => stepInto(dir, "and the monitor steps out again")),
  });

  const manager: CgroupManager = {
    driver: "cgroupfs",
    version: 1,

    async prepare(parent = "") {
      for (const [controller, mount] of mountedControllers(facts.cgroup)) {
        for (const path of new Set([home, parentPath(parent, home)])) await makeParent({ controller, mount, path, cpuRealtime: options.cpuRealtime });
      }
      known = undefined; // the parent has files that the root lacks
    },

    plan(parent, name, resources, _slot): CgroupPlan {
      if (!/^[A-Za-z0-9_.-]+$/.test(name) || name.startsWith(".")) throw new EngineError("invalid", `invalid cgroup name "${name}"`);
      const has = support();
      const { resources: possible, warnings } = dropUnsupported(resources, has);
      const dirs = directories(facts.cgroup, `${parentPath(parent, home)}/${name}`);
      const writes = limitWrites(possible, has).flatMap((write) => {
        const dir = dirs[write.controller];
        return dir === undefined ? [] : [{ write, step: writeStep(dir, write) }];
      });
      // With room for one process the monitor and its child would not both fit: that limit waits until the monitor is out.
      const late = (file: string, value: string) => file === "pids.max" && value === "1";
      const { cloneInto, join } = visit(dirs);
      return {
        paths: { version: 1, dirs },
        create: [
          ...distinct(dirs).map((dir) => mkdirStep(dir, `the container's ${controllersAt(dirs, dir)} cgroup`)),
          ...writes.filter(({ write }) => !late(write.file, write.value)).map(({ step }) => step),
        ],
        ...(cloneInto && { cloneInto }),
        join: [...join, ...writes.filter(({ write }) => late(write.file, write.value)).map(({ step }) => step)],
        exitReports: dirs["memory"] === undefined ? [] : [`${dirs["memory"]}/memory.oom_control`, `${dirs["memory"]}/memory.max_usage_in_bytes`],
        warnings,
      };
    },

    planJoin: ({ dirs }, _slot) => ({ join: distinct(dirs).map((dir) => stepInto(dir, `into the container's ${controllersAt(dirs, dir)} cgroup`, "child")) }),

    async update({ dirs }, resources: OciResources) {
      await updateLimits(dirs, dropUnsupported(resources, support()).resources, support());
    },

    async freeze(paths) {
      const dir = freezerOf(paths);
      await writeControl(`${dir}/freezer.state`, "FROZEN");
      // FREEZING until the last task has stopped; writing again catches what was forked meanwhile.
      const frozen = await until(async () => {
        const state = await readControl(`${dir}/freezer.state`);
        if (state === undefined) throw new EngineError("not-found", `no such cgroup: ${dir}`);
        if (state !== "FROZEN") await writeControl(`${dir}/freezer.state`, "FROZEN");
        return state === "FROZEN";
      }, FREEZE_TIMEOUT_MS);
      if (frozen) return;
      await writeControl(`${dir}/freezer.state`, "THAWED");
      throw new EngineError("kernel", `cannot freeze ${dir}: a process does not stop (it may wait for a disk or network that does not answer)`);
    },

    async thaw(paths) {
      await writeControl(`${freezerOf(paths)}/freezer.state`, "THAWED");
    },

    async kill(paths) {
      const dir = killDirectory(paths);
      const freezer = paths.dirs["freezer"];
      const setState = async (state: string) => {
        if (freezer !== undefined && (await readControl(`${freezer}/freezer.state`)) !== undefined) await writeControl(`${freezer}/freezer.state`, state);
      };
      // Frozen processes neither fork nor exit, so none escapes between reading the list and the signals; a signal takes effect when they thaw.
      const empty = await until(async () => {
        if ((await processesOf(dir)).length === 0) return true;
        await setState("FROZEN");
        try {
          await killOnce(dir);
        } finally {
          await setState("THAWED");
        }
        return false;
      }, KILL_TIMEOUT_MS);
      if (!empty) throw new EngineError("kernel", `processes in ${dir} do not end after SIGKILL: ${(await processesOf(dir)).slice(0, 10).join(", ")}`);
    },

    pids: async (paths) => await processesOf(killDirectory(paths)),
    stats: async (paths) => await readStats(paths, facts.memoryBytes),

    async remove({ dirs }) {
      if (options.helper !== undefined && (await removeTogether(options.helper, [], distinct(dirs)))) return;
      await Promise.all(distinct(dirs).map(removeTree));
    },

    wasOomKilled: (reports) => reports.some((text) => /^oom_kill [1-9]/m.test(text ?? "")),

    async orphans(keep) {
      const found = new Map<string, Record<string, string>>();
      for (const [controller, mount] of mountedControllers(facts.cgroup)) {
        for (const name of await childrenOf(mount + home)) {
          if (!keep.has(name)) found.set(name, { ...found.get(name), [controller]: `${mount}${home}/${name}` });
        }
      }
      return [...found.values()].map((dirs): CgroupPaths => ({ version: 1, dirs }));
    },

    async close() {
      if (options.ownParent) await Promise.all(homeDirs.map(removed));
    },

    info: () => ({ flags: infoFlags(support()), warnings: infoWarnings(support()) }),
  };
  return manager;
}

function freezerOf({ dirs }: CgroupPaths): string {
  const dir = dirs["freezer"];
  if (dir === undefined) throw new EngineError("unsupported", "this host has no freezer cgroup: containers cannot be paused");
  return dir;
}

/** The hierarchy whose process list counts: any lists all of them; freezer and pids are the least likely to have been re-arranged from inside. */
function killDirectory({ dirs }: CgroupPaths): string {
  const dir = dirs["freezer"] ?? dirs["pids"] ?? Object.values(dirs)[0];
  if (dir === undefined) throw new EngineError("unsupported", "the container has no cgroup");
  return dir;
}

async function childrenOf(dir: string): Promise<string[]> {
  try {
    return (await readdir(dir, { withFileTypes: true })).filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}

/** Makes each level; a new cpuset is given its parent's CPUs and nodes, and passes them on to its children by itself. */
interface ParentToMake {
  readonly controller: string;
  readonly mount: string;
  readonly path: string;
  readonly cpuRealtime: CpuRealtime | undefined;
}

async function makeParent({ controller, mount, path, cpuRealtime }: ParentToMake): Promise<void> {
  let above = mount;
  for (const level of ancestry(path)) {
    const dir = mount + level;
    await mkdir(dir, { recursive: true, mode: 0o755 });
    if (controller === "cpuset") await inheritCpuset(above, dir);
    if (controller === "cpu" && cpuRealtime !== undefined) await allotRealtime(dir, cpuRealtime);
    above = dir;
  }
}

async function allotRealtime(dir: string, { periodUs, runtimeUs }: CpuRealtime): Promise<void> {
  if (periodUs !== undefined) await writeControl(`${dir}/cpu.rt_period_us`, String(periodUs));
  if (runtimeUs !== undefined) await writeControl(`${dir}/cpu.rt_runtime_us`, String(runtimeUs));
}

async function inheritCpuset(above: string, dir: string): Promise<void> {
  for (const file of ["cpuset.cpus", "cpuset.mems"]) {
    const own = await readControl(`${dir}/${file}`);
    if (own === "") await writeControl(`${dir}/${file}`, (await readControl(`${above}/${file}`)) ?? "");
  }
  await writeControl(`${dir}/cgroup.clone_children`, "1");
}
