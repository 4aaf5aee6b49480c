/** What every command works with, and the cgroup that a spec names. @module */
import { fileURLToPath } from "node:url";
import { posix } from "node:path";
import { type CgroupManager, type CgroupPlan, openCgroups } from "#cgroup/mod.ts";
import { EngineError } from "#core/errors.ts";
import type { OciResources, OciSpec } from "#core/runtime-spec.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { probeHost } from "#linux/probe-host.ts";
import { slots } from "#runtime/mod.ts";
import { defaultDeviceRules } from "#runtime/resources.ts";
import type { RuntimeIo } from "./io.ts";
import type { StateStore, StoredState } from "./state.ts";

export interface RuntimeContext {
  readonly io: RuntimeIo;
  readonly store: StateStore;
  readonly systemdCgroup: boolean;
}

/** Beside this program in the package; in the checkout, in dist. */
export function helperPath(): string {
  return fileURLToPath(new URL(import.meta.url.endsWith(".ts") ? "../../../dist/bin/wherry-helper" : "./bin/wherry-helper", import.meta.url));
}

let facts: Promise<HostFacts> | undefined;
export function hostFacts(): Promise<HostFacts> {
  return (facts ??= probeHost());
}

/** Where containers without a cgroupsPath go. */
const DEFAULT_PARENT = "/wherry-runtime";

interface Place {
  readonly parent: string;
  readonly name: string;
}

/** `slice:prefix:name` of the systemd driver; runc's rule: the scope is `prefix-name`. */
function scopeOf(spec: OciSpec, id: string): Place {
  const path = spec.linux?.cgroupsPath ?? "";
  const [slice, prefix, name, ...more] = path === "" ? ["", "wherry-runtime", id] : path.split(":");
  if (slice === undefined || prefix === undefined || name === undefined || name === "" || more.length > 0)
    throw new EngineError("invalid", `expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "${path}" instead`);
  return { parent: slice === "" ? "system.slice" : slice, name: `${prefix === "" ? "" : `${prefix}-`}${name}.scope` };
}

/** Absolute cgroupsPaths are meant from the hierarchies' roots, relative ones below our own. */
function placeOf(spec: OciSpec, id: string): Place {
  const path = spec.linux?.cgroupsPath ?? "";
  const full = posix.normalize(path === "" ? `${DEFAULT_PARENT}/${id}` : path.startsWith("/") ? path : `${DEFAULT_PARENT}/${path}`);
  return { parent: posix.dirname(full), name: posix.basename(full) };
}

/** For acting on the cgroup of a container: who starts processes in it steps out of it into its parent. */
export async function cgroupManager({ spec, id, cgroup }: Pick<StoredState, "spec" | "id" | "cgroup">): Promise<CgroupManager> {
  const systemd = cgroup?.unit !== undefined;
  const { parent } = systemd ? scopeOf(spec, id) : placeOf(spec, id);
  return openCgroups(await hostFacts(), { parent, driver: systemd ? "systemd" : "cgroupfs", helperPath: helperPath() });
}

/** The cgroup that the spec names, and who makes it; undefined where the host has none. */
export async function planCgroup(
  spec: OciSpec,
  id: string,
  { io, systemdCgroup }: RuntimeContext,
): Promise<{ readonly manager: CgroupManager; readonly plan: CgroupPlan } | undefined> {
  const facts = await hostFacts();
  if (facts.cgroup.mode === "none" && !systemdCgroup) return undefined;
  const { parent, name } = systemdCgroup ? scopeOf(spec, id) : placeOf(spec, id);
  const manager = openCgroups(facts, { parent, driver: systemdCgroup ? "systemd" : "cgroupfs", helperPath: helperPath() });
  // Directly below the root nobody hands down CPUs and nodes: it is made as a parent is.
  await manager.prepare(parent === "/" ? `/${name}` : undefined);
  const plan = manager.plan(parent === "/" ? "" : parent, name, withDefaultDevices(spec.linux?.resources ?? {}), slots.cgroup);
  for (const warning of plan.warnings) io.err(`warning: ${warning}\n`);
  return { manager, plan };
}

/** The devices that every container has (config-linux.md, "Default Devices") may be made and used, whatever the spec's rules are: as runc and crun do. */
function withDefaultDevices(resources: OciResources): OciResources {
  if (resources.devices === undefined || resources.devices === null || resources.devices.length === 0) return resources;
  return { ...resources, devices: [...resources.devices, ...defaultDeviceRules.filter((rule) => rule.allow)] };
}
