import type { DeviceMapperOptions } from "./options.ts";
import type { PoolPlace, PoolUsage } from "./thin-pool.ts";

/** The lines of `info`, as Docker prints them. */
export function poolStatus({
  pool,
  usage,
  options,
  base,
  version,
}: {
  readonly pool: PoolPlace;
  readonly usage: PoolUsage;
  readonly options: DeviceMapperOptions;
  readonly base: { readonly sizeBytes: number; readonly filesystem: string };
  readonly version: string;
}): readonly (readonly [string, string])[] {
  const space = (what: string, used: number, total: number) =>
    [
      [`${what} Space Used`, humanSize(used)],
      [`${what} Space Total`, humanSize(total)],
      [`${what} Space Available`, humanSize(Math.max(0, total - used))],
    ] as const;
  return [
    ["Pool Name", pool.name],
    ["Pool Blocksize", humanSize(usage.blockBytes)],
    ["Base Device Size", humanSize(base.sizeBytes)],
    ["Backing Filesystem", base.filesystem],
    // Nodes are made by the kernel; nobody waits for udev.
    ["Udev Sync Supported", "false"],
    ...(pool.data === "" ? [] : ([["Data file", pool.data]] as const)),
    ...(pool.metadata === "" ? [] : ([["Metadata file", pool.metadata]] as const)),
    ...(pool.loop === undefined
      ? []
      : ([
          ["Data loop file", pool.loop.data],
          ["Metadata loop file", pool.loop.metadata],
        ] as const)),
    ...space("Data", usage.dataUsed, usage.dataTotal),
    ...space("Metadata", usage.metadataUsed, usage.metadataTotal),
    ["Thin Pool Minimum Free Space", humanSize((usage.dataTotal * options.minFreePercent) / 100)],
    ["Deferred Removal Enabled", String(options.deferredRemoval)],
    ["Deferred Deletion Enabled", "true"],
    ["Deferred Deleted Device Count", "0"],
    ["Driver Version", version],
  ];
}

/** "10.74GB": units of 1000, four digits. */
function humanSize(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let value = bytes;
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${Number(value.toPrecision(4))}${units[unit]}`;
}
