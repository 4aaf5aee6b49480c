import { isIP } from "node:net";
import { isAbsolute } from "node:path";
import { EngineError } from "#core/errors.ts";

/** What the options of the `local` driver ask for. */
export type LocalBacking =
  /** A directory below the store. */
  | { readonly kind: "directory" }
  /** `type=none,o=bind,device=DIR`: a directory of the host's. */
  | { readonly kind: "bind"; readonly device: string }
  /** A filesystem that is mounted while containers use the volume. `options` as in fstab. */
  | { readonly kind: "mount"; readonly fstype: string; readonly device: string; readonly options: readonly string[] };

const known = new Set(["type", "o", "device", "size"]);

/**
 * Reads the options of the `local` driver. What cannot be mounted is found out by the first start.
 * @see https://docs.docker.com/reference/cli/docker/volume/create/#opt
 */
export function parseLocalOptions(name: string, options: Readonly<Record<string, string>>): LocalBacking {
  for (const key of Object.keys(options)) if (!known.has(key)) throw new EngineError("invalid", `create ${name}: invalid option: "${key}"`);
  if (options.size !== undefined) throw refused(name, "the option size needs a filesystem with project quotas, which volumes do not use yet");
  const { type = "", o = "", device = "" } = options;
  if (type === "" && o === "" && device === "") return { kind: "directory" };
  if (device === "") throw new EngineError("invalid", `create ${name}: missing required option: "device"`);
  const flags = o.split(",").filter((flag) => flag !== "");
  const binds = flags.some((flag) => flag === "bind" || flag === "rbind");
  if (type === "") throw new EngineError("invalid", `create ${name}: missing required option: "type"`);
  if (!["none", "bind"].includes(type) && !binds) return mounted(name, type, device, flags);
  if (!binds) throw new EngineError("invalid", `create ${name}: a volume of type ${type} needs the option o=bind`);
  const other = flags.filter((flag) => !["bind", "rbind", "rw"].includes(flag));
  if (other.length > 0)
    throw refused(name, `the mount options "${other.join(",")}" are not supported for bind volumes`, "give them where the volume is used (-v NAME:DIR:ro)");
  if (!isAbsolute(device)) throw new EngineError("invalid", `create ${name}: the device of a bind volume must be an absolute path: "${device}"`);
  return { kind: "bind", device };
}

/** nfs: the server is an option of its own, an address or a name, which is resolved when it is mounted (server-address.ts). */
function mounted(name: string, fstype: string, device: string, options: readonly string[]): LocalBacking {
  if (!/^[a-z0-9_.-]{1,32}$/.test(fstype)) throw new EngineError("invalid", `create ${name}: invalid filesystem type "${fstype}"`);
  const address = options.find((option) => option.startsWith("addr="))?.slice("addr=".length) ?? "";
  if (/^nfs4?$/.test(fstype) && !(isIP(address) !== 0 || /^[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,252})$/.test(address)))
    throw new EngineError("invalid", `create ${name}: a volume of type ${fstype} needs its server: o=addr=192.0.2.1,… or its name (got "${address}")`);
  return { kind: "mount", fstype, device, options };
}

function refused(name: string, why: string, hint?: string): EngineError {
  return new EngineError("unsupported", `create ${name}: ${why}`, hint === undefined ? {} : { hint });
}
