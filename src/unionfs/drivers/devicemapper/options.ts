import { EngineError } from "#core/errors.ts";
import { booleanOption, readStorageOptions, sizeOption, type StorageOptions } from "../../storage-options.ts";

/** Docker's `dm.*`. Sizes in bytes. */
export interface DeviceMapperOptions {
  /** What each container's filesystem holds; undefined = as it was, or 10 GiB. */
  readonly baseSizeBytes: number | undefined;
  readonly filesystem: "xfs" | "ext4" | undefined;
  /** Further arguments of mkfs, and options of each mount. */
  readonly mkfsArguments: readonly string[];
  readonly mountOptions: readonly string[];
  /** A thin pool that is there; else one is made of the data and metadata devices, or of files on loop devices. */
  readonly thinPool: string | undefined;
  readonly dataDevice: string | undefined;
  readonly metadataDevice: string | undefined;
  readonly loopDataBytes: number;
  readonly loopMetadataBytes: number;
  readonly blockBytes: number;
  /** Discard what a deleted device held, so that the pool's file shrinks; undefined = with files on loop devices. */
  readonly discard: boolean | undefined;
  readonly minFreePercent: number;
  readonly deferredRemoval: boolean;
}

const noLvm = { reason: "logical volumes are not made by this engine: make a thin pool with lvcreate(8) and name it with dm.thinpooldev" };
const noLibrary = { reason: "libdevmapper is not used" };

const known = {
  "dm.basesize": true,
  "dm.fs": true,
  "dm.mkfsarg": true,
  "dm.mountopt": true,
  "dm.thinpooldev": true,
  "dm.datadev": true,
  "dm.metadatadev": true,
  "dm.loopdatasize": true,
  "dm.loopmetadatasize": true,
  "dm.blocksize": true,
  "dm.blkdiscard": true,
  "dm.min_free_space": true,
  "dm.use_deferred_removal": true,
  "dm.use_deferred_deletion": { reason: "devices are always deleted in the background, and again at the next start where that fails" },
  "dm.directlvm_device": noLvm,
  "dm.directlvm_device_force": noLvm,
  "dm.thinp_percent": noLvm,
  "dm.thinp_metapercent": noLvm,
  "dm.thinp_autoextend_threshold": noLvm,
  "dm.thinp_autoextend_percent": noLvm,
  "dm.override_udev_sync_check": noLibrary,
  "dm.libdm_log_level": noLibrary,
  "dm.xfs_nospace_max_retries": { reason: "a full pool answers at once with an error" },
} as const;

const gib = 1024 ** 3;

/** @throws EngineError "invalid" */
export function readDeviceMapperOptions(given: StorageOptions): DeviceMapperOptions {
  const options = readStorageOptions("devicemapper", given, known);
  const filesystem = options.get("dm.fs");
  if (filesystem !== undefined && filesystem !== "xfs" && filesystem !== "ext4")
    throw new EngineError("invalid", `devicemapper: unsupported filesystem ${filesystem}`, { hint: "dm.fs is xfs or ext4" });
  const thinPool = options.get("dm.thinpooldev");
  const [dataDevice, metadataDevice] = [options.get("dm.datadev"), options.get("dm.metadatadev")];
  if (thinPool !== undefined && (dataDevice !== undefined || metadataDevice !== undefined))
    throw new EngineError("invalid", "devicemapper: dm.thinpooldev excludes dm.datadev and dm.metadatadev");
  if ((dataDevice === undefined) !== (metadataDevice === undefined))
    throw new EngineError("invalid", "devicemapper: dm.datadev and dm.metadatadev go together: a thin pool takes a device for each");
  const blockBytes = sizeOption(options, "dm.blocksize") ?? 64 * 1024;
  if (blockBytes < 64 * 1024 || blockBytes > gib || blockBytes % (64 * 1024) !== 0)
    throw new EngineError("invalid", `devicemapper: dm.blocksize=${blockBytes} is no multiple of 64K up to 1G`);
  return {
    baseSizeBytes: sizeOption(options, "dm.basesize"),
    filesystem,
    mkfsArguments: words(options.get("dm.mkfsarg"), /\s+/),
    mountOptions: words(options.get("dm.mountopt"), /,/),
    thinPool,
    dataDevice,
    metadataDevice,
    loopDataBytes: sizeOption(options, "dm.loopdatasize") ?? 100 * gib,
    loopMetadataBytes: sizeOption(options, "dm.loopmetadatasize") ?? 2 * gib,
    blockBytes,
    discard: booleanOption(options, "dm.blkdiscard"),
    minFreePercent: percent(options.get("dm.min_free_space") ?? "10%"),
    deferredRemoval: booleanOption(options, "dm.use_deferred_removal") ?? false,
  };
}

function words(text: string | undefined, separator: RegExp): readonly string[] {
  return text === undefined ? [] : text.split(separator).filter((word) => word !== "");
}

function percent(text: string): number {
  const number = /^(\d{1,2})%$/.exec(text)?.[1];
  if (number === undefined) throw new EngineError("invalid", `devicemapper: dm.min_free_space=${text} is no percentage`, { hint: 'for example "10%"' });
  return Number(number);
}
