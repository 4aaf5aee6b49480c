/** What an empty field of the API prints as in a template: Go prints an empty list, an empty map and a missing number each in its way. @module */

const maps = [
  "Annotations",
  "AuxiliaryAddresses",
  "DriverOpts",
  "ExposedPorts",
  "Labels",
  "Options",
  "PortBindings",
  "Ports",
  "Sysctls",
  "Tmpfs",
  "Volumes",
  "Data",
  "Config",
  "LogConfig",
];
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
