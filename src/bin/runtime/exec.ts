/** `exec`: one more process in a running container. @module */
import { join } from "node:path";
import type { CgroupPaths } from "#cgroup/mod.ts";
import { EngineError } from "#core/errors.ts";
import type { OciProcess } from "#core/runtime-spec.ts";
import { planExec, seccompFlags, seccompListener, seccompProgram, slots } from "#runtime/mod.ts";
import { checkProcess, knownCapabilities, possibleAmbient, readJson } from "./bundle.ts";
import { checkProcessShape } from "./spec-shape.ts";
import { cgroupManager, helperPath, hostFacts, type RuntimeContext } from "./context.ts";
import { consoleOf, preservedOf } from "./create.ts";
import { writePidFile } from "./files.ts";
import { idOf, isSet, type Parsed, flagValue } from "./flags.ts";
import { foreground } from "./foreground.ts";
import { absolute, requireOwnProcess, type RuntimeIo } from "./io.ts";
import { ociState, type StoredState } from "./state.ts";
import { checkLabels } from "./validate.ts";

export async function exec({ io, store }: RuntimeContext, flags: Parsed): Promise<number> {
  const id = idOf(flags);
  const state = store.read(id);
  const status = store.status(state);
  if (status === "creating") throw new EngineError("conflict", "cannot exec in a container that is being created");
  if (status === "stopped") throw new EngineError("conflict", "cannot exec in a stopped container");
  if (status === "paused" && !isSet(flags, "ignore-paused"))
    throw new EngineError("conflict", "cannot exec in a paused container (use --ignore-paused to override)");
  const process = processOf(io, state.spec.process, flags);
  const facts = await hostFacts();
  checkLabels(process, facts);
  const tty = process.terminal === true;
  const wait = !isSet(flags, "detach");
  const consoleSocket = consoleOf(io, flags, tty, wait);
  const cgroup = cgroupOf(state, flags.values.get("cgroup") ?? []);
  const namespaces = (state.spec.linux?.namespaces ?? []).map((entry) => entry.type);
  const preserveFds = preservedOf(flags);
  if (preserveFds > 0) requireOwnProcess(io, "descriptors of the caller are handed on");
  if (tty && wait) requireOwnProcess(io, "the caller's terminal is the program's");
  const plan = planExec({
    target: { pid: state.pid, startTime: BigInt(state.startTime) },
    process,
    namespaces,
    facts,
    cgroup: cgroup === undefined ? { join: [] } : (await cgroupManager(state)).planJoin(cgroup, slots.cgroup),
    tty,
    seccomp: seccompProgram(state.spec.linux?.seccomp ?? undefined, facts),
    attachGate: false,
    userns: namespaces.includes("user"),
    id,
    seccompFlags: seccompFlags(state.spec.linux?.seccomp),
    personality: state.spec.linux?.personality,
    detached: { preserveFds, noKeyring: state.noKeyring === true, listener: seccompListener(state.spec.linux?.seccomp, ociState(state, status)) },
  });
  const detached = await io.launch({
    helperPath: helperPath(),
    plan,
    tty,
    rows: process.consoleSize?.height ?? 0,
    columns: process.consoleSize?.width ?? 0,
    consoleSocket,
    wait,
    preserveFds,
  });
  writePidFile(absolute(io, flagValue(flags, "pid-file")), detached.pid);
  return wait ? await foreground(detached, io) : 0;
}

/** The container's cgroup, or below it what `--cgroup [CONTROLLER[,CONTROLLER]:]PATH` names; there must be one. */
function cgroupOf({ cgroup, id }: StoredState, wanted: readonly string[]): CgroupPaths | undefined {
  if (wanted.length === 0) return cgroup;
  if (cgroup === undefined) throw new EngineError("unsupported", `--cgroup: container ${id} has no cgroup`);
  const dirs = { ...cgroup.dirs };
  for (const text of wanted) {
    const [, names, path = ""] = /^(?:([a-z_]+(?:,[a-z_]+)*):)?([^:]*)$/.exec(text) ?? [];
    if (path.split("/").includes("..")) throw new EngineError("invalid", `--cgroup: "${text}" is not below the container's cgroup`);
    const controllers = names?.split(",") ?? Object.keys(cgroup.dirs);
    for (const controller of controllers) {
      const own = cgroup.dirs[controller];
      if (own === undefined) throw new EngineError("invalid", `--cgroup: "${text}": the container has no cgroup of a controller ${controller}`);
      // Controllers that are mounted together have one directory.
      for (const [each, dir] of Object.entries(cgroup.dirs)) if (dir === own) dirs[each] = join(dir, path);
    }
  }
  return { ...cgroup, dirs };
}

/** The process as `--process` says, or the container's own with another command. */
function processOf(io: RuntimeIo, own: OciProcess, flags: Parsed): OciProcess {
  const given = flagValue(flags, "process");
  if (given === "-") requireOwnProcess(io, "the process is read from the caller's input");
  const file = given === "-" ? given : absolute(io, given);
  if (file !== undefined) {
    // Checked below; the planner refuses values itself.
    const process = checkProcessShape(readJson(file));
    checkProcess(process);
    return possibleAmbient(knownCapabilities(process, (line) => io.err(line)));
  }
  const args = flags.rest.slice(1);
  if (args.length === 0) throw new EngineError("invalid", "process args cannot be empty");
  const [, uid, gid] = /^(\d+)(?::(\d+))?$/.exec(flagValue(flags, "user") ?? "") ?? [];
  if (flagValue(flags, "user") !== undefined && uid === undefined)
    throw new EngineError("invalid", `--user: UID[:GID] in numbers is expected, not "${flagValue(flags, "user")}"`);
  const [apparmorProfile, selinuxLabel] = [flagValue(flags, "apparmor"), flagValue(flags, "process-label")];
  const groups = (flags.values.get("additional-gids") ?? []).map(Number);
  const added = flags.values.get("cap") ?? [];
  const capabilities = { ...own.capabilities };
  for (const set of ["bounding", "effective", "permitted"] as const)
    if (added.length > 0) capabilities[set] = [...new Set([...(capabilities[set] ?? []), ...added])];
  return possibleAmbient({
    ...own,
    args,
    terminal: isSet(flags, "tty"),
    env: [...(own.env ?? []), ...(flags.values.get("env") ?? [])],
    cwd: flagValue(flags, "cwd") ?? own.cwd,
    capabilities,
    user: {
      ...own.user,
      ...(uid === undefined ? {} : { uid: Number(uid), gid: Number(gid ?? own.user.gid) }),
      ...(groups.length === 0 ? {} : { additionalGids: groups }),
    },
    noNewPrivileges: isSet(flags, "no-new-privs") || own.noNewPrivileges === true,
    ...(apparmorProfile === undefined ? {} : { apparmorProfile }),
    ...(selinuxLabel === undefined ? {} : { selinuxLabel }),
  });
}
