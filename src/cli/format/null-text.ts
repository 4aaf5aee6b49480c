/**
 * How docker's typed objects read where ours are JSON: Go prints an empty list, an empty map and a missing number each in its way, and knows of fields that an
 * answer leaves out.
 * @module
 */
import type { Strict } from "./template.ts";

/** Maps with keys of the user's own. */
const openMaps = [
  "Annotations",
  "AuxiliaryAddresses",
  "Containers",
  "Data",
  "DriverOpts",
  "ExposedPorts",
  "Labels",
  "Networks",
  "Options",
  "PortBindings",
  "Ports",
  "StorageOpt",
  "Sysctls",
  "Tmpfs",
  "Volumes",
];
const maps = [...openMaps, "Config", "LogConfig"];
const pointers = [
  "Healthcheck",
  "Health",
  "IPAMConfig",
  "Init",
  "MemorySwappiness",
  "OomKillDisable",
  "PidsLimit",
  "StopTimeout",
  "SizeRw",
  "SizeRootFs",
  "ExitCode",
  "UsageData",
];

/** Lists are the common case. */
export function nullText(field: string): string {
  if (maps.includes(field)) return "map[]";
  return pointers.includes(field) ? "<nil>" : "[]";
}

/** What is left out when it is empty, and how that prints. */
const optional: Readonly<Record<string, string>> = {
  ...Object.fromEntries(["Health", "Healthcheck", "Init", "SizeRootFs", "SizeRw", "StopTimeout", "UsageData"].map((name) => [name, "<nil>"])),
  ...Object.fromEntries(["Annotations", "ExposedPorts", "StorageOpt", "Sysctls", "Tmpfs"].map((name) => [name, "map[]"])),
  ...Object.fromEntries(["Mounts", "Shell"].map((name) => [name, "[]"])),
  ...Object.fromEntries(["ArgsEscaped", "NetworkDisabled"].map((name) => [name, "false"])),
  ...Object.fromEntries(["MacAddress", "StopSignal"].map((name) => [name, ""])),
};

/** What is inspected: docker reads it as its types first, then as the JSON that it is. */
export const inspected: Strict = {
  missing: (name) => `map has no entry for key ${JSON.stringify(name)}`,
  absent: (name) => optional[name],
  isMap: (name) => openMaps.includes(name),
};

/** The answers of `info` and `version`, whose `type` docker names; `left` may be left out of them. */
export function typed(type: string, left: readonly string[]): Strict {
  return {
    missing: (name) => `can't evaluate field ${name} in type ${type}`,
    absent: (name) => (left.includes(name) ? "" : undefined),
    isMap: (name) => name === "Runtimes" || name === "Details" || name === "IndexConfigs",
  };
}
