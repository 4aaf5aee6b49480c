import { isAbsolute } from "node:path";
import { EngineError } from "#core/errors.ts";

/** What the options of the `local` driver ask for. */
export type LocalBacking =
  /** A directory below the store. */
  | { readonly kind: "directory" }
  /** `type=none,o=bind,device=DIR`: a directory of the host's. */
  | { readonly kind: "bind"; readonly device: string };

const known = new Set(["type", "o", "device", "size"]);

/**
 * Reads the options of the `local` driver. What would have to be mounted is refused with the reason.
 * @see https://docs.docker.com/reference/cli/docker/volume/create/#opt
 */
export function parseLocalOptions(name: string, options: Readonly<Record<string, string>>): LocalBacking {
  for (const key of Object.keys(options)) if (!known.has(key)) throw new EngineError("invalid", `create ${name}: invalid option: "${key}"`);
  if (options.size !== undefined) throw refused(name, "the option size needs a filesystem with project quotas, which volumes do not use yet");
  const { type = "", o = "", device = "" } = options;
  if (type === "" && o === "" && device === "") return { kind: "directory" };
  if (device === "") throw new EngineError("invalid", `create ${name}: missing required option: "device"`);
  const flags = o.split(",").filter((flag) => flag !== "");
  if (!["", "none", "bind"].includes(type) || !flags.some((flag) => flag === "bind" || flag === "rbind")) {
    throw refused(
      name,
      `volumes of type "${type || "none"}" with options "${o}" are not mounted by this version: only type=none,o=bind,device=DIR is`,
      "mount it on the host, and bind that directory",
    );
  }
  const other = flags.filter((flag) => !["bind", "rbind", "rw"].includes(flag));
  if (other.length > 0)
    throw refused(name, `the mount options "${other.join(",")}" are not supported for bind volumes`, "give them where the volume is used (-v NAME:DIR:ro)");
  if (!isAbsolute(device)) throw new EngineError("invalid", `create ${name}: the device of a bind volume must be an absolute path: "${device}"`);
  return { kind: "bind", device };
}

function refused(name: string, why: string, hint?: string): EngineError {
  return new EngineError("unsupported", `create ${name}: ${why}`, hint === undefined ? {} : { hint });
}
