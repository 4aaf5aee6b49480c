/**
 * Capabilities: the pieces root's power is cut into.
 * @module
 * @see capabilities(7), linux/capability.h
 */

/** In the order of their numbers. */
export const capabilityNames: readonly string[] = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_DAC_READ_SEARCH",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETPCAP",
  "CAP_LINUX_IMMUTABLE",
  "CAP_NET_BIND_SERVICE",
  "CAP_NET_BROADCAST",
  "CAP_NET_ADMIN",
  "CAP_NET_RAW",
  "CAP_IPC_LOCK",
  "CAP_IPC_OWNER",
  "CAP_SYS_MODULE",
  "CAP_SYS_RAWIO",
  "CAP_SYS_CHROOT",
  "CAP_SYS_PTRACE",
  "CAP_SYS_PACCT",
  "CAP_SYS_ADMIN",
  "CAP_SYS_BOOT",
  "CAP_SYS_NICE",
  "CAP_SYS_RESOURCE",
  "CAP_SYS_TIME",
  "CAP_SYS_TTY_CONFIG",
  "CAP_MKNOD",
  "CAP_LEASE",
  "CAP_AUDIT_WRITE",
  "CAP_AUDIT_CONTROL",
  "CAP_SETFCAP",
  "CAP_MAC_OVERRIDE",
  "CAP_MAC_ADMIN",
  "CAP_SYSLOG",
  "CAP_WAKE_ALARM",
  "CAP_BLOCK_SUSPEND",
  "CAP_AUDIT_READ",
  "CAP_PERFMON",
  "CAP_BPF",
  "CAP_CHECKPOINT_RESTORE",
];

const numbers = new Map(capabilityNames.map((name, index) => [name, BigInt(index)]));

/** The bit mask of these names; unknown names (a spec from a newer kernel) are left out, as the kernel could not know them. */
export function capabilityMask(names: readonly string[]): bigint {
  let mask = 0n;
  for (const name of names) {
    const number = numbers.get(name);
    if (number !== undefined) mask |= 1n << number;
  }
  return mask;
}

/** The names of the bits in a mask. */
export function capabilitiesOf(mask: bigint): string[] {
  return capabilityNames.filter((_, index) => (mask >> BigInt(index)) & 1n);
}

/** HostFacts carry the mask as a bigint, or as hex in JSON. */
export function parseCapabilityMask(mask: bigint | string): bigint {
  return typeof mask === "bigint" ? mask : BigInt(mask.startsWith("0x") ? mask : `0x${mask}`);
}
