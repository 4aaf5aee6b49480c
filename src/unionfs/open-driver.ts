import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { Helper } from "#linux/helper.ts";
import { openAufs, probeAufs } from "./drivers/aufs/driver.ts";
import { openBtrfs, probeBtrfs } from "./drivers/btrfs/driver.ts";
import { openDeviceMapper, probeDeviceMapper } from "./drivers/devicemapper/driver.ts";
import { openErofs, probeErofs } from "./drivers/erofs/driver.ts";
import { openFuseOverlayfs, probeFuseOverlayfs } from "./drivers/fuse-overlayfs/driver.ts";
import { openOverlay } from "./drivers/overlay/driver.ts";
import { openOverlay2 } from "./drivers/overlay2/driver.ts";
import { probeOverlay } from "./overlay-probe.ts";
import { openVfs } from "./drivers/vfs/driver.ts";
import { openZfs, probeZfs } from "./drivers/zfs/driver.ts";
import type { DriverProbe, StorageDriver } from "./mod.ts";
import type { StorageOptions } from "./storage-options.ts";

interface DriverFactory {
  probe(dataRoot: string, helper: Helper, options: StorageOptions): Promise<DriverProbe>;
  open(dataRoot: string, helper: Helper, options: StorageOptions): Promise<StorageDriver>;
}

/** By name, in the order in which they are tried. The last two are for those who ask: `overlay` is there to compare, and vfs works anywhere. */
const factories: Readonly<Record<string, DriverFactory>> = {
  overlay2: { probe: probeOverlay, open: openOverlay2 },
  erofs: { probe: probeErofs, open: openErofs },
  btrfs: { probe: probeBtrfs, open: openBtrfs },
  zfs: { probe: probeZfs, open: openZfs },
  "fuse-overlayfs": { probe: probeFuseOverlayfs, open: openFuseOverlayfs },
  aufs: { probe: probeAufs, open: openAufs },
  overlay: { probe: probeOverlay, open: openOverlay },
  devicemapper: { probe: probeDeviceMapper, open: openDeviceMapper },
  vfs: { probe: async () => ({ supported: true }), open: openVfs },
};

/** Whether a driver of this name (one of {@link driverNames}) can run on the data root. */
export async function probeDriver(name: string, root: string, helper: Helper, options: StorageOptions = []): Promise<DriverProbe> {
  return (await factories[name]?.probe(root, helper, options)) ?? { supported: false, reason: "there is no such driver" };
}

/** Every driver by name and whether it can run on the data root. */
export async function probeDrivers(
  root: string,
  helper: Helper,
  options: StorageOptions = [],
): Promise<{ readonly name: string; readonly probe: DriverProbe }[]> {
  return Promise.all(driverNames.map(async (name) => ({ name, probe: await probeDriver(name, root, helper, options) })));
}

/** Names of the drivers there are, best first. */
export const driverNames: readonly string[] = Object.keys(factories);

/**
 * Opens the driver of this name; without one, the driver that the data root has layers of already, else the best one that works here. EngineError "unsupported" with the reason otherwise.
 * @param where.root the data root; each driver keeps to its own directory in it
 */
export async function openDriver(
  name: string | undefined,
  { root, helper, options = [] }: { readonly root: string; readonly helper: Helper; readonly options?: StorageOptions },
): Promise<StorageDriver> {
  await mkdir(root, { recursive: true, mode: 0o710 });
  if (name !== undefined) {
    const factory = Object.hasOwn(factories, name) ? factories[name] : undefined;
    if (factory === undefined) throw new EngineError("invalid", `unknown storage driver "${name}"`, { hint: `there are ${driverNames.join(", ")}` });
    const probe = await factory.probe(root, helper, options);
    if (!probe.supported) throw new EngineError("unsupported", `storage driver ${name}: ${probe.reason}`, { hint: "choose another with --storage-driver" });
    return factory.open(root, helper, options);
  }
  const reasons: string[] = [];
  const used = await usedDrivers(root);
  for (const [candidate, factory] of Object.entries(factories).sort(([a], [b]) => Number(used.has(b)) - Number(used.has(a)))) {
    const probe = await factory.probe(root, helper, options);
    if (probe.supported) return factory.open(root, helper, options);
    // Its layers would seem to be lost if another driver took over.
    if (used.has(candidate))
      throw new EngineError("unsupported", `storage driver ${candidate}, which ${root} was used with, no longer works: ${probe.reason}`, {
        hint: "name another driver with --storage-driver to start anew beside it",
      });
    reasons.push(`${candidate}: ${probe.reason}`);
  }
  throw new EngineError("unsupported", `no storage driver works at ${root} (${reasons.join("; ")})`);
}

/** Drivers with a layer in this data root. */
async function usedDrivers(root: string): Promise<ReadonlySet<string>> {
  const used = new Set<string>();
  for (const name of driverNames) {
    try {
      if ((await readdir(join(root, name))).some((entry) => /^[0-9a-f]{64}$/.test(entry))) used.add(name);
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
    }
  }
  return used;
}
