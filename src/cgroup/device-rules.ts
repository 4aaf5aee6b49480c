/**
 * What a list of device rules comes to: OCI rules are applied in order, as writes to the v1 devices controller would be. The result is one default and
 * its exceptions; v1 writes that, v2 compiles it to a BPF program.
 * @module
 * @see kernel Documentation/admin-guide/cgroup-v1/devices.rst
 */
import { EngineError } from "#core/errors.ts";
import type { OciResources } from "#core/runtime-spec.ts";

export type DeviceRule = NonNullable<OciResources["devices"]>[number];

export interface DeviceException {
  readonly type: "c" | "b";
  /** undefined = all. */
  readonly major: number | undefined;
  readonly minor: number | undefined;
  /** Some of "r", "w", "m", in this order. */
  readonly access: string;
}

/** Everything is allowed (or denied) but the exceptions. */
export interface DevicePolicy {
  readonly allowByDefault: boolean;
  readonly exceptions: readonly DeviceException[];
}

const ordered = (access: Iterable<string>): string => {
  const set = new Set(access);
  return ["r", "w", "m"].filter((letter) => set.has(letter)).join("");
};

/** Applies the rules in order, starting from "everything is allowed" (what a new cgroup below an unrestricted one has). */
export function devicePolicy(rules: readonly DeviceRule[]): DevicePolicy {
  let allowByDefault = true;
  let exceptions = new Map<string, DeviceException>();
  for (const rule of rules) {
    const { major, minor } = rule;
    const type = rule.type || "a"; // Go's clients may write it empty
    const access = ordered(rule.access ?? "rwm");
    if (access === "" || access.length !== new Set(rule.access ?? "rwm").size)
      throw new EngineError("invalid", `invalid device access "${rule.access}": want some of "rwm"`);
    if (type === "a") {
      allowByDefault = rule.allow;
      exceptions = new Map();
      continue;
    }
    if (type !== "c" && type !== "b") throw new EngineError("invalid", `invalid device type "${type as string}" of a device rule: want a, b or c`);
    const at = { type, major: asWildcard(major), minor: asWildcard(minor) };
    const key = `${type} ${at.major ?? "*"}:${at.minor ?? "*"}`;
    const old = exceptions.get(key)?.access ?? "";
    const now = rule.allow === allowByDefault ? ordered([...old].filter((letter) => !access.includes(letter))) : ordered(old + access);
    if (now === "") exceptions.delete(key);
    else exceptions.set(key, { ...at, access: now });
  }
  return { allowByDefault, exceptions: [...exceptions.values()] };
}

/** runtime-spec: -1 and absent both mean "all". */
function asWildcard(number: number | undefined): number | undefined {
  return number === undefined || number < 0 ? undefined : number;
}
