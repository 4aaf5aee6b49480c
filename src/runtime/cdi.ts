/**
 * Container Device Interface: a JSON (or YAML) file says what it takes to give a container a device: nodes, mounts, environment. Pure: files are read by the
 * engine.
 * @module
 * @see https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md
 */
import { EngineError } from "#core/errors.ts";
import { type HookKind, hookKinds } from "./hook-runs.ts";

export interface CdiDeviceNode {
  readonly path: string;
  readonly hostPath?: string;
  readonly permissions?: string;
  readonly fileMode?: number;
  readonly uid?: number;
  readonly gid?: number;
}

export interface CdiMount {
  readonly hostPath: string;
  readonly containerPath: string;
  /** "bind", or a filesystem of its own. */
  readonly type: string;
  readonly options: readonly string[];
}

export interface CdiHook {
  readonly kind: HookKind;
  readonly path: string;
  readonly args: readonly string[];
  readonly env: readonly string[];
  /** Seconds. */
  readonly timeout?: number;
}

export interface CdiEdits {
  readonly env: readonly string[];
  readonly deviceNodes: readonly CdiDeviceNode[];
  readonly mounts: readonly CdiMount[];
  readonly additionalGids: readonly number[];
  readonly hooks: readonly CdiHook[];
  /** Names of what else it wants, which this engine does not do. */
  readonly unsupported: readonly string[];
}

export interface CdiSpec {
  /** vendor.com/class. */
  readonly kind: string;
  readonly devices: ReadonlyMap<string, CdiEdits>;
  /** For a container that gets any of the devices. */
  readonly edits: CdiEdits;
}

const kindPattern = /^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?\/[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$/;
const namePattern = /^[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$/;

/** "vendor.com/class=name" → its parts; undefined: it is no CDI name (but perhaps a path). */
export function parseCdiName(text: string): { readonly kind: string; readonly name: string } | undefined {
  const [, kind = "", name = ""] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  return kindPattern.test(kind) && namePattern.test(name) && !text.startsWith("/") ? { kind, name } : undefined;
}

/** A spec out of a parsed file. @throws EngineError "invalid" */
export function parseCdiSpec(value: unknown, file: string): CdiSpec {
  const reader = new Reader(file);
  const spec = reader.object(value, "the file");
  const version = reader.text(spec["cdiVersion"], "cdiVersion");
  if (!/^v?(0\.[3-9]|1\.[01])(\.\d+)?$/.test(version)) throw reader.bad(`cdiVersion "${version}" is not known`);
  const kind = reader.text(spec["kind"], "kind");
  if (!kindPattern.test(kind)) throw reader.bad(`kind "${kind}" is not vendor/class`);
  const devices = new Map<string, CdiEdits>();
  for (const entry of reader.list(spec["devices"], "devices")) {
    const device = reader.object(entry, "devices");
    const name = reader.text(device["name"], "devices.name");
    if (!namePattern.test(name)) throw reader.bad(`"${name}" is no name of a device`);
    if (devices.has(name)) throw reader.bad(`the device ${name} is there twice`);
    devices.set(name, reader.edits(device["containerEdits"]));
  }
  if (devices.size === 0) throw reader.bad("it has no devices");
  return { kind, devices, edits: reader.edits(spec["containerEdits"]) };
}

class Reader {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  bad(why: string): EngineError {
    return new EngineError("invalid", `invalid CDI spec ${this.#file}: ${why}`);
  }

  object(value: unknown, what: string): Readonly<Record<string, unknown>> {
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw this.bad(`${what} is not an object`);
    return value as Readonly<Record<string, unknown>>; // an object has string keys
  }

  list(value: unknown, what: string): readonly unknown[] {
    if (value === undefined || value === null) return [];
    if (!Array.isArray(value)) throw this.bad(`${what} is not a list`);
    return value;
  }

  text(value: unknown, what: string): string {
    if (typeof value !== "string" || value === "" || value.includes("\0")) throw this.bad(`${what} is not a text`);
    return value;
  }

  path(value: unknown, what: string): string {
    const path = this.text(value, what);
    if (!path.startsWith("/")) throw this.bad(`${what} "${path}" is not absolute`);
    return path;
  }

  number(value: unknown, what: string): number {
    if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > 2 ** 32 - 1) throw this.bad(`${what} is not a number`);
    return value;
  }

  edits(value: unknown): CdiEdits {
    const edits = value === undefined || value === null ? {} : this.object(value, "containerEdits");
    const texts = (list: unknown, what: string) => this.list(list, what).map((item) => this.text(item, what));
    return {
      env: texts(edits["env"], "env").map((entry) => {
        if (!/^[^=]+=/.test(entry)) throw this.bad(`env "${entry}" is not NAME=VALUE`);
        return entry;
      }),
      deviceNodes: this.list(edits["deviceNodes"], "deviceNodes").map((node) => this.#node(node)),
      mounts: this.list(edits["mounts"], "mounts").map((entry) => {
        const mount = this.object(entry, "mounts");
        return {
          hostPath: this.path(mount["hostPath"], "hostPath"),
          type: mount["type"] === undefined || mount["type"] === "" ? "bind" : this.text(mount["type"], "mounts.type"),
          containerPath: this.path(mount["containerPath"], "containerPath"),
          options: texts(mount["options"], "options"),
        };
      }),
      additionalGids: this.list(edits["additionalGids"], "additionalGids").map((gid) => this.number(gid, "additionalGids")),
      hooks: this.list(edits["hooks"], "hooks").map((hook) => this.#hook(hook)),
      unsupported: (["intelRdt", "netDevices"] as const).filter((key) => edits[key] !== undefined && edits[key] !== null),
    };
  }

  #hook(value: unknown): CdiHook {
    const hook = this.object(value, "hooks");
    const name = this.text(hook["hookName"], "hookName");
    const kind = hookKinds.find((known) => known === name);
    if (kind === undefined) throw this.bad(`"${name}" is no name of a hook: one of ${hookKinds.join(", ")} is expected`);
    const env = this.list(hook["env"], "hooks.env").map((item) => this.text(item, "hooks.env"));
    for (const entry of env) if (!/^[^=]+=/.test(entry)) throw this.bad(`hooks.env "${entry}" is not NAME=VALUE`);
    const timeout = hook["timeout"] === undefined || hook["timeout"] === null ? 0 : this.number(hook["timeout"], "hooks.timeout");
    return {
      kind,
      path: this.path(hook["path"], "hooks.path"),
      args: this.list(hook["args"], "hooks.args").map((item) => {
        if (typeof item !== "string" || item.includes("\0")) throw this.bad("hooks.args is not a list of texts");
        return item;
      }),
      env,
      ...(timeout === 0 ? {} : { timeout }),
    };
  }

  #node(value: unknown): CdiDeviceNode {
    const node = this.object(value, "deviceNodes");
    const number = (key: "fileMode" | "uid" | "gid") => (node[key] === undefined ? {} : { [key]: this.number(node[key], key) });
    const permissions = node["permissions"] === undefined || node["permissions"] === "" ? undefined : this.text(node["permissions"], "permissions");
    if (permissions !== undefined && !/^[rwm]{1,3}$/.test(permissions)) throw this.bad(`permissions "${permissions}" are not of r, w and m`);
    return {
      path: this.path(node["path"], "deviceNodes.path"),
      ...(node["hostPath"] === undefined || node["hostPath"] === "" ? {} : { hostPath: this.path(node["hostPath"], "hostPath") }),
      ...(permissions === undefined ? {} : { permissions }),
      ...number("fileMode"),
      ...number("uid"),
      ...number("gid"),
    };
  }
}
