/**
 * One more process in a running container: join its namespaces and cgroups instead of making new ones, then the same last steps as at start.
 * @module
 */
import { CLONE } from "#linux/flags.ts";
import { NO_SLOT } from "#linux/plan.ts";
import { namespaceKinds } from "#namespace/mod.ts";
import { Draft } from "./draft.ts";
import type { ExecPlanInput } from "./mod.ts";
import { planAffinity, planLabels } from "./process-attributes.ts";
import { planListener, planOomScore, planProcess } from "./plan-process.ts";
import type { Plan } from "#linux/plan.ts";

/** @see ExecPlanInput */
export function planExec(input: ExecPlanInput): Plan {
  const { target, process, cgroup } = input;
  const draft = new Draft();
  const pidfd = draft.take();
  const joined = namespaceKinds.filter((kind) => input.namespaces.includes(kind.type));
  // Of the PID namespace setns(2) makes only the children members: the process joins it when it is reborn.
  const inChild = joined.filter((kind) => kind.type !== "time" && kind.type !== "user");
  const reborn = joined.some((kind) => kind.type === "pid");

  draft.section("The running container");
  draft.host({ op: "pidfd_open", pid: target.pid, starttime: target.startTime, out: pidfd }, "its first process stands for all its namespaces");
  const hostSlots = [pidfd];
  if (cgroup.cloneInto !== undefined) {
    draft.add(...cgroup.cloneInto.steps.map(({ section: _section, ...step }) => step));
    if (cgroup.cloneInto.slot !== NO_SLOT) hostSlots.push(cgroup.cloneInto.slot);
  }
  planListener(draft, input.detached);
  draft.section("The new process");
  draft.host(
    { op: "clone", flags: 0n, cgroup: cgroup.cloneInto?.slot ?? NO_SLOT },
    cgroup.cloneInto === undefined ? "a child" : "a child, in the container's limits",
  );
  draft.add(...cgroup.join.map(({ section: _section, ...step }) => step));
  if (input.attachGate) draft.host({ op: "attach_gate" }, "the program starts when those who want its output from the start are listening");

  draft.section("Into the container");
  planAffinity(draft, process.execCPUAffinity?.initial, "CPUs while it is prepared");
  planOomScore(draft, process);
  planLabels(draft, process); // while /proc is the host's: in the container's it has no number yet
  const flags = inChild.reduce((all, kind) => all | kind.flag, input.userns ? CLONE.NEWUSER : 0n);
  if (flags !== 0n) draft.child({ op: "setns", fd: pidfd, flags }, "sees what the container sees: its root, its network, its name", { see: "namespaces(7)" });
  if (input.userns) {
    draft.child({ op: "setresgid", gid: 0 }, "group 0 of the container, no longer the host's");
    draft.child({ op: "setresuid", uid: 0 }, "root of the container");
  }
  draft.child({ op: "setsid" }, "a session of its own");
  if (input.detached === undefined || input.tty)
    draft.child(
      { op: "stdio", console: input.tty && reborn ? 2 : 0 },
      input.tty ? "a new terminal of the container's as its descriptors 0, 1 and 2" : "descriptors 0, 1 and 2 are the monitor's pipes",
    );
  // A descriptor of a host directory would be a way out, by way of /proc/self/fd (CVE-2024-21626).
  for (const slot of hostSlots) draft.child({ op: "close", slot }, "no descriptor of the engine is left when paths of the container are used");
  if (input.detached?.noKeyring !== true)
    draft.child({ op: "keyring", name: `_ses.${input.id ?? ""}` }, "the container's session keyring: the engine's keys stay the engine's", {
      see: "session-keyring(7)",
      ignore: ["ENOSYS"],
    });
  planAffinity(draft, process.execCPUAffinity?.final, "CPUs that it may run on");
  planProcess(draft, {
    process,
    seccomp: input.seccomp,
    seccompFlags: input.seccompFlags,
    personality: input.personality,
    labelled: true,
    ...(reborn ? { rebirth: { arch: input.facts.kernel.arch } } : {}),
    ...(input.detached === undefined ? {} : { detached: input.detached }),
  });
  return draft.plan();
}
