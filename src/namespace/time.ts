/**
 * Time namespace: offsets of the monotonic and boot-time clocks (`uptime`), for containers that are moved between hosts. The wall clock is
 * not in it. Docker never asks for one; an OCI spec may.
 *
 * clone(2) puts the child into the namespace that its parent prepared for children, and the offsets must be written before the first process
 * is in: so the monitor unshares, writes, then clones.
 * @see time_namespaces(7)
 * @module
 */
import { EngineError } from "#core/errors.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";
import { CLONE } from "#linux/flags.ts";
import { joinSteps, type NamespaceKind } from "./kind.ts";

export const timeNamespace: NamespaceKind = {
  type: "time",
  flag: CLONE.NEWTIME,
  flagName: "NEWTIME",
  file: "time",
  man: "time_namespaces(7)",
  isolates: "the time since boot can differ from the host's",
  contribute({ membership, spec, facts, slot }) {
    if (membership.how === "shared") return {};
    if (!facts.namespaces.includes("time")) throw new EngineError("unsupported", "this kernel has no time namespaces (Linux 5.6, CONFIG_TIME_NS)");
    if (membership.how === "join") return { before: joinSteps(timeNamespace, membership.path, slot, "so that both have one time since boot") };
    const section = "Clocks";
    const offsets = Object.entries(spec.linux?.timeOffsets ?? {})
      .map(([clock, { secs = 0, nanosecs = 0 }]) => `${clock} ${secs} ${nanosecs}\n`)
      .join("");
    const before: Step[] = [
      { op: "unshare", flags: CLONE.NEWTIME, where: "host", why: "a time namespace for the children made from now on", see: "time_namespaces(7)", section },
    ];
    if (offsets !== "")
      before.push({
        op: "write",
        dir: NO_SLOT,
        path: "/proc/self/timens_offsets",
        flags: 0n,
        data: new TextEncoder().encode(offsets),
        where: "host",
        why: "how far its clocks are from the host's",
        see: "time_namespaces(7)",
      });
    return { before };
  },
};
