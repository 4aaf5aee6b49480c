/** The volumes, with their users, filters and events. @module */
import { EngineError } from "#core/errors.ts";
import type { VolumeRecord } from "#volume/mod.ts";
import type { EngineContext } from "./context.ts";
import { directoryBytes } from "./disk-usage.ts";
import { hasLabel } from "./list-containers.ts";
import type { Engine, Filters } from "./mod.ts";
import { volumeUsers } from "./remove-container.ts";
import { cloneVolume, exportVolume, importVolume, renameVolume } from "./volume-content.ts";

/** Docker's mark of volumes that nobody named. */
const ANONYMOUS = "com.docker.volume.anonymous";

export function volumesOf(ctx: EngineContext): Engine["volumes"] {
  const { volumes, events } = ctx;
  const remove = async (name: string, force: boolean) => {
    const known = volumes.find(name);
    await volumes.remove(name, { force, users: volumeUsers(ctx, name) });
    if (known !== undefined) events.publish("volume", "destroy", name, { driver: known.Driver });
  };
  return {
    list: (filters) => volumes.list().filter(volumeFilter(ctx, filters)),
    get: (name) => volumes.get(name),
    create: async (options) => {
      const known = options.name !== undefined && volumes.find(options.name) !== undefined;
      const volume = await volumes.create(options);
      if (!known) events.publish("volume", "create", volume.Name, { driver: volume.Driver });
      return volume;
    },
    remove,
    clone: (name, newName) => cloneVolume(ctx, name, newName),
    exportTar: (name, onChanged) => exportVolume(ctx, name, onChanged),
    importTar: (name, archive) => importVolume(ctx, name, archive),
    rename: (name, newName) => renameVolume(ctx, name, newName),
    prune: async (filters) => {
      const { all: every = [], ...others } = filters;
      const named = every.some((v) => v === "1" || v.toLowerCase() === "true");
      const wanted = volumeFilter(ctx, others);
      const deleted: string[] = [];
      let bytes = 0;
      for (const volume of volumes.list()) {
        if (!wanted(volume) || (!named && !isAnonymous(volume)) || volumeUsers(ctx, volume.Name).length > 0) continue;
        const size = await directoryBytes(ctx, volume.Mountpoint);
        await remove(volume.Name, false);
        deleted.push(volume.Name);
        bytes += size;
      }
      events.publish("volume", "prune", "", { reclaimed: String(bytes) });
      return { deleted, bytes };
    },
  };
}

function isAnonymous({ Name, Labels }: VolumeRecord): boolean {
  return Object.hasOwn(Labels ?? {}, ANONYMOUS) || /^[0-9a-f]{64}$/.test(Name);
}

function volumeFilter(ctx: EngineContext, filters: Filters): (volume: VolumeRecord) => boolean {
  const checks = Object.entries(filters)
    .filter(([, values]) => values.length > 0)
    .map(([key, values]): ((volume: VolumeRecord) => boolean) => {
      switch (key) {
        case "name":
          return ({ Name }) => values.some((v) => Name.includes(v));
        case "driver":
          return ({ Driver }) => values.includes(Driver);
        case "label":
          return ({ Labels }) => values.every((v) => hasLabel(Labels ?? {}, v));
        case "label!":
          return ({ Labels }) => !values.some((v) => hasLabel(Labels ?? {}, v));
        case "dangling": {
          const wanted = values.some((v) => v === "1" || v.toLowerCase() === "true");
          return ({ Name }) => (volumeUsers(ctx, Name).length === 0) === wanted;
        }
        default:
          throw new EngineError("invalid", `invalid filter '${key}'`);
      }
    });
  return (volume) => checks.every((check) => check(volume));
}
