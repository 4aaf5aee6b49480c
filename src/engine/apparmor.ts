/**
 * AppArmor, where the kernel runs with it: which profile a container has, and the engine's own, which all have that ask for none.
 *
 * The profile repeats what namespaces, masked paths, capabilities and the filter do already: one more wall, should one of them have a hole.
 * @module
 * @see apparmor.d(5)
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { HostConfig } from "#core/container-config.ts";
import { findProgram } from "#linux/find-program.ts";
import type { Helper } from "#linux/helper.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { runProgram } from "#linux/run-program.ts";
import { parseSecurityOptions } from "#runtime/security-options.ts";

/** Of the engine's own profile. */
export const DEFAULT_PROFILE = "wherry-default";

const LOADED = "/sys/kernel/security/apparmor/profiles";

/** Everything is allowed but what a container could reach the host's kernel by. */
const profileText = `#include <tunables/global>

profile ${DEFAULT_PROFILE} flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (send,receive) peer=${DEFAULT_PROFILE},
  ptrace (trace,read,tracedby,readby) peer=${DEFAULT_PROFILE},
  deny mount,

  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
`;

export interface AppArmorOptions {
  readonly facts: HostFacts;
  readonly helper: Helper;
  readonly execRoot: string;
  readonly log: (level: "warn", message: string) => void;
}

/** Loads the engine's own profile. Its name; undefined where there is no AppArmor, or (with a warning) no way to load it. */
export async function loadDefaultProfile({ facts, helper, execRoot, log }: AppArmorOptions): Promise<string | undefined> {
  if (!facts.lsm.includes("apparmor")) return undefined;
  const parser = await findProgram("apparmor_parser");
  try {
    if (parser !== undefined) {
      const file = join(execRoot, "apparmor-profile");
      await writeFile(file, profileText, { mode: 0o600 });
      await runProgram(helper, [parser, "-Kr", file], "loading the AppArmor profile of containers");
      return DEFAULT_PROFILE;
    }
    if ((await readFile(LOADED, "utf8")).split("\n").some((line) => line.startsWith(`${DEFAULT_PROFILE} `))) return DEFAULT_PROFILE;
    log("warn", `AppArmor is on, but apparmor_parser is not installed: containers run without the profile ${DEFAULT_PROFILE}`);
  } catch (error) {
    log("warn", `containers run without the AppArmor profile ${DEFAULT_PROFILE}: ${(error as Error).message}`);
  }
  return undefined;
}

/** As Docker decides it. `byDefault`: of {@link loadDefaultProfile}. "" where there is no AppArmor. */
export function appArmorProfileOf({ SecurityOpt, Privileged }: HostConfig, facts: HostFacts, byDefault: string | undefined): string {
  if (!facts.lsm.includes("apparmor")) return "";
  const { apparmor = "" } = parseSecurityOptions(SecurityOpt);
  if (apparmor !== "") return apparmor;
  return Privileged ? "unconfined" : (byDefault ?? "");
}
