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
import type { StateStore } from "./state.ts";

export interface RuntimeContext {
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

/** Absolute cgroupsPaths are meant from the hierarchies' roots, relative ones below our own. */
function placeOf(spec: OciSpec, id: string): { readonly parent: string; readonly name: string } {
  const path = spec.linux?.cgroupsPath ?? "";
  const full = posix.normalize(path === "" ? `${DEFAULT_PARENT}/${id}` : path.startsWith("/") ? path : `${DEFAULT_PARENT}/${path}`);
  return { parent: posix.dirname(full), name: posix.basename(full) };
}

/** For acting on the cgroup of a container: who starts processes in it steps out of it into its parent. */
export async function cgroupManager({ spec, id }: { readonly spec: OciSpec; readonly id: string }): Promise<CgroupManager> {
  return openCgroups(await hostFacts(), { parent: placeOf(spec, id).parent });
}

/** The cgroup that the spec names; undefined where the host has none. */
export async function planCgroup(spec: OciSpec, id: string, { systemdCgroup }: RuntimeContext): Promise<CgroupPlan | undefined> {
  if (systemdCgroup)
    throw new EngineError(
      "unsupported",
      "the systemd cgroup driver is not supported by this runtime: configure the cgroupfs driver (leave --systemd-cgroup out)",
    );
  if ((await hostFacts()).cgroup.mode === "none") return undefined;
  const { parent, name } = placeOf(spec, id);
  if (parent === "/")
    throw new EngineError(
      "unsupported",
      `cgroupsPath "/${name}" is not supported: a container's cgroup needs a parent of its own, such as /containers/${name}`,
    );
  const manager = await cgroupManager({ spec, id });
  await manager.prepare();
  return manager.plan(parent, name, withDefaultDevices(spec.linux?.resources ?? {}), slots.cgroup);
}

/** The devices that every container has (config-linux.md, "Default Devices") may be made and used, whatever the spec's rules are: as runc and crun do. */
function withDefaultDevices(resources: OciResources): OciResources {
  if (resources.devices === undefined || resources.devices === null || resources.devices.length === 0) return resources;
  return { ...resources, devices: [...resources.devices, ...defaultDeviceRules.filter((rule) => rule.allow)] };
}
