/**
 * Which capabilities a container gets.
 * @module
 * @see capabilities(7)
 */
import { EngineError } from "#core/errors.ts";
import { capabilitiesOf, capabilityNames, parseCapabilityMask } from "#linux/capabilities.ts";
import type { HostFacts } from "#linux/host-facts.ts";

/** What Docker leaves to root in a container: 14 of 41. */
export const defaultCapabilities: readonly string[] = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FSETID",
  "CAP_FOWNER",
  "CAP_MKNOD",
  "CAP_NET_RAW",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETFCAP",
  "CAP_SETPCAP",
  "CAP_NET_BIND_SERVICE",
  "CAP_SYS_CHROOT",
  "CAP_KILL",
  "CAP_AUDIT_WRITE",
];

const ALL = "ALL";

/** "net_admin" → "CAP_NET_ADMIN"; EngineError "invalid" with Docker's words for an unknown one. */
function normalize(names: readonly string[] | null, flag: string): string[] {
  return (names ?? []).map((given) => {
    const upper = given.toUpperCase();
    if (upper === ALL || upper === "CAP_ALL") return ALL;
    const name = upper.startsWith("CAP_") ? upper : `CAP_${upper}`;
    if (!capabilityNames.includes(name)) throw new EngineError("invalid", `invalid ${flag}: unknown capability: "${name}"`);
    return name;
  });
}

export interface CapabilityRequest {
  readonly add: readonly string[] | null;
  readonly drop: readonly string[] | null;
  readonly privileged: boolean;
  /** A user namespace gives its root every capability that the kernel has (over that namespace only). */
  readonly userns: boolean;
}

/** The container's capabilities in the kernel's order; a warning sentence for each one asked for that this host cannot give. */
export function containerCapabilities(request: CapabilityRequest, facts: HostFacts): { readonly names: string[]; readonly warnings: string[] } {
  const add = normalize(request.add, "CapAdd");
  const drop = normalize(request.drop, "CapDrop");
  const known = capabilityNames.slice(0, facts.lastCap + 1);
  const wanted = new Set(
    request.privileged
      ? known
      : add.includes(ALL)
        ? known.filter((name) => !drop.includes(name))
        : drop.includes(ALL)
          ? add
          : [...defaultCapabilities.filter((name) => !drop.includes(name)), ...add],
  );
  const available = new Set(request.userns ? known : capabilitiesOf(parseCapabilityMask(facts.capabilities)).filter((name) => known.includes(name)));
  return {
    names: known.filter((name) => wanted.has(name) && available.has(name)),
    warnings: add.filter((name) => name !== ALL && !available.has(name)).map((name) => `This host gives the engine no ${name}: the container runs without it.`),
  };
}
