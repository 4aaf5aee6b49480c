/** `--mount type=bind,source=…,target=…`. @module */
import { resolve } from "node:path";
import type { MountSpec } from "#core/container-config.ts";
import { parseBool } from "../flags.ts";
import { parseBytes } from "./bytes.ts";
import { splitFields } from "./csv.ts";

/** What a `--mount` said; the source of a bind is not resolved yet (flags know no directory). */
export type MountFlag = Omit<MountSpec, "Type"> & { Type: string };

interface Draft {
  mount: MountFlag;
  used: Set<"bind" | "volume" | "tmpfs" | "image">;
  image: { Subpath?: string };
}

type Setter = (draft: Draft, value: string, key: string) => void;

const bind = (draft: Draft): NonNullable<MountSpec["BindOptions"]> => {
  draft.used.add("bind");
  return (draft.mount.BindOptions ??= {});
};
const volume = (draft: Draft): NonNullable<MountSpec["VolumeOptions"]> => {
  draft.used.add("volume");
  return (draft.mount.VolumeOptions ??= {});
};
const tmpfs = (draft: Draft): NonNullable<MountSpec["TmpfsOptions"]> => {
  draft.used.add("tmpfs");
  return (draft.mount.TmpfsOptions ??= {});
};

function bool(key: string, value: string): boolean {
  try {
    return parseBool(value);
  } catch {
    throw new Error(`invalid value for ${key}: ${value}`);
  }
}

function pair(map: Record<string, string>, text: string): Record<string, string> {
  const equals = text.indexOf("=");
  map[equals < 0 ? text : text.slice(0, equals)] = equals < 0 ? "" : text.slice(equals + 1);
  return map;
}

const setters: Readonly<Record<string, Setter>> = {
  type: (d, v) => void (d.mount.Type = v.toLowerCase()),
  source: (d, v) => void (d.mount.Source = v),
  target: (d, v) => void (d.mount.Target = v),
  readonly: (d, v, k) => void (d.mount.ReadOnly = bool(k, v)),
  consistency: (d, v) => void (d.mount.Consistency = v.toLowerCase()),
  "bind-propagation": (d, v) => void (bind(d).Propagation = v.toLowerCase()),
  "bind-nonrecursive": (d, v, k) => void (bind(d).NonRecursive = bool(k, v)),
  "bind-recursive": recursive,
  idmap: (d, v) => void (bind(d).WherryIdmap = v === "true" ? "" : v),
  "bind-create-src": (d, v, k) => void (bind(d).CreateMountpoint = bool(k, v)),
  "volume-nocopy": (d, v, k) => void (volume(d).NoCopy = bool(k, v)),
  "volume-label": (d, v) => void (volume(d).Labels = pair(volume(d).Labels ?? {}, v)),
  "volume-driver": (d, v) => void (volume(d).DriverConfig = { ...volume(d).DriverConfig, Name: v }),
  "volume-opt": (d, v) => void (volume(d).DriverConfig = { ...volume(d).DriverConfig, Options: pair(volume(d).DriverConfig?.Options ?? {}, v) }),
  "volume-subpath": (d, v) => void (volume(d).Subpath = v),
  "image-subpath": (d, v) => {
    d.used.add("image");
    d.image.Subpath = v;
  },
  "tmpfs-size": (d, v) => {
    try {
      tmpfs(d).SizeBytes = parseBytes(v);
    } catch {
      throw new Error(`invalid value for tmpfs-size: ${v}`);
    }
  },
  "tmpfs-mode": (d, v) => {
    if (!/^[0-7]+$/.test(v)) throw new Error(`invalid value for tmpfs-mode: ${v}`);
    tmpfs(d).Mode = Number.parseInt(v, 8);
  },
};

const aliases: Readonly<Record<string, string>> = { src: "source", dst: "target", destination: "target", ro: "readonly" };
/** Keys that need no value. */
const bareKeys = ["readonly", "ro", "bind-nonrecursive", "volume-nocopy", "bind-create-src", "idmap"];

function recursive(draft: Draft, value: string): void {
  const options = bind(draft);
  if (value === "disabled") options.NonRecursive = true;
  else if (value === "writable") options.ReadOnlyNonRecursive = true;
  else if (value === "readonly") options.ReadOnlyForceRecursive = true;
  else if (value !== "enabled") throw new Error(`invalid value for bind-recursive: ${value} (must be "enabled", "disabled", "writable", or "readonly")`);
}

/** One `--mount`. Throws Error with docker's reason. */
export function parseMount(text: string): MountFlag {
  if (text === "") throw new Error("value is empty");
  const draft: Draft = { mount: { Type: "volume", Target: "" }, used: new Set(), image: {} };
  for (const field of splitFields(text)) {
    const equals = field.indexOf("=");
    const word = (equals < 0 ? field : field.slice(0, equals)).toLowerCase();
    if (equals < 0 && !bareKeys.includes(word)) throw new Error(`invalid field '${field}' must be a key=value pair`);
    const key = Object.hasOwn(aliases, word) ? aliases[word]! : word;
    const set = Object.hasOwn(setters, key) ? setters[key] : undefined;
    if (set === undefined) throw new Error(`unexpected key '${word}' in '${field}'`);
    set(draft, equals < 0 ? "true" : field.slice(equals + 1), word);
  }
  return checked(draft);
}

function checked({ mount, used, image }: Draft): MountFlag {
  if (mount.Type === "") throw new Error("type is required");
  if (mount.Target === "") throw new Error("target is required");
  for (const kind of ["volume", "bind", "tmpfs", "image"] as const) {
    if (used.has(kind) && mount.Type !== kind) throw new Error(`cannot mix '${kind}-*' options with mount type '${mount.Type}'`);
  }
  const recursion = mount.BindOptions;
  if (recursion?.ReadOnlyNonRecursive === true && mount.ReadOnly !== true)
    throw new Error("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction");
  if (recursion?.ReadOnlyForceRecursive === true) {
    if (mount.ReadOnly !== true) throw new Error("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction");
    if (recursion.Propagation !== "rprivate") {
      throw new Error("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction");
    }
  }
  return image.Subpath === undefined ? mount : { ...mount, ImageOptions: image };
}

/** With a bind's relative source resolved against the caller's directory. */
export function resolveMount(mount: MountFlag, cwd: string): MountSpec {
  const relative = mount.Type === "bind" && mount.Source !== undefined && /^\.\.?(\/|$)/.test(mount.Source);
  return { ...mount, ...(relative ? { Source: resolve(cwd, mount.Source!) } : {}) } as MountSpec; // the daemon checks the type
}
