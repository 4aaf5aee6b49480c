/** The default profile with one capability more or less: every x86_64 call, decided by the filter and by an own reading of Docker's JSON. */
import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { capabilityNames } from "#linux/capabilities.ts";
import { compileSeccomp } from "./compile.ts";
import { runFilter } from "./interpreter.ts";
import { parseProfile, resolveProfile } from "./profile.ts";
import { syscallNumbers } from "./syscalls.ts";

interface Rule {
  readonly names: string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: { index: number; value: number; valueTwo?: number; op: string }[];
  readonly includes?: { caps?: string[]; arches?: string[]; minKernel?: string };
  readonly excludes?: { caps?: string[]; arches?: string[]; minKernel?: string };
}

const given = new URL("../../../../shared/spec/seccomp/default.json", import.meta.url);
const own = new URL("../../runtime/seccomp-default.json", import.meta.url);
const text = readFileSync(existsSync(given) ? given : own, "utf8");
const { syscalls: rules } = JSON.parse(text) as { syscalls: Rule[] };
const defaults = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
  .split(" ")
  .map((name) => `CAP_${name}`);
const numbers = [...syscallNumbers("x86_64")];

/** "allow", or the errno: the first rule of the JSON that is meant for amd64 on Linux 6.18 with these capabilities, and holds for these arguments. */
function decided(name: string, args: readonly bigint[], caps: readonly string[]): string {
  for (const { names, action, errnoRet = 1, args: conditions = [], includes, excludes } of rules) {
    if (!names.includes(name)) continue;
    if (includes?.arches !== undefined && !includes.arches.includes("amd64")) continue;
    if (excludes?.arches?.includes("amd64") === true || excludes?.minKernel !== undefined) continue;
    if (includes?.caps?.every((cap) => caps.includes(cap)) === false || excludes?.caps?.some((cap) => caps.includes(cap)) === true) continue;
    const holds = conditions.every(({ index, value, valueTwo = 0, op }) => {
      const arg = args[index] ?? 0n;
      if (op === "SCMP_CMP_EQ") return arg === BigInt(value);
      if (op === "SCMP_CMP_LT") return arg < BigInt(value);
      if (op === "SCMP_CMP_GT") return arg > BigInt(value);
      if (op === "SCMP_CMP_NE") return arg !== BigInt(value);
      if (op === "SCMP_CMP_MASKED_EQ") return (arg & BigInt(value)) === BigInt(valueTwo);
      throw new Error(`the profile compares with ${op}`);
    });
    if (!holds) continue;
    if (action === "SCMP_ACT_ALLOW") return "allow";
    if (action === "SCMP_ACT_ERRNO") return `errno ${errnoRet}`;
    throw new Error(`the profile says ${action}`);
  }
  // Newer than all that the profile names: "not implemented", so that a libc falls back.
  const newest = Math.max(...numbers.filter(([known]) => rules.some((rule) => rule.names.includes(known))).map(([, number]) => number));
  return (syscallNumbers("x86_64").get(name) ?? 0) > newest ? "errno 38" : "errno 1";
}

function told(result: number): string {
  return result === 0x7fff0000 ? "allow" : `errno ${result & 0xffff}`;
}

const samples: readonly (readonly bigint[])[] = [0n, 1n, 8n, 39n, 40n, 41n, 0x20000n, 0x20008n, 0x7e020000n, 0x10000000n, 0xffffffffn].map((a) => [
  a,
  a,
  a,
  a,
  a,
  a,
]);

describe("every system call of the default profile", () => {
  const cases: [string, string[]][] = [
    ["Docker's capabilities", defaults],
    ["none", []],
    ["all", [...capabilityNames]],
    ...capabilityNames.filter((name) => !defaults.includes(name)).map((name): [string, string[]] => [`also ${name}`, [...defaults, name]]),
    ...defaults.map((name): [string, string[]] => [`not ${name}`, defaults.filter((other) => other !== name)]),
  ];
  it.each(cases)("with %s", (_what, capabilities) => {
    const context = { arch: "x86_64", kernel: { major: 6, minor: 18 }, capabilities } as const;
    const program = compileSeccomp(resolveProfile(parseProfile(readFileSync(own, "utf8")), context), "x86_64");
    const wrong: string[] = [];
    for (const [name, number] of numbers)
      for (const args of samples) {
        const [ours, theirs] = [told(runFilter(program, { nr: number, arch: 0xc000003e, args }).result), decided(name, args, capabilities)];
        if (ours !== theirs) wrong.push(`${name}(${args[0]}): ${ours} instead of ${theirs}`);
      }
    expect(wrong).toEqual([]);
  });

  it("differs by what a capability is for", () => {
    const differ = (cap: string) => numbers.filter(([name]) => decided(name, [], defaults) !== decided(name, [], [...defaults, cap])).map(([name]) => name);
    expect(differ("CAP_SYS_ADMIN")).toContain("mount");
    expect(differ("CAP_SYS_BOOT")).toContain("reboot");
    expect(differ("CAP_SYSLOG")).toEqual(["syslog"]);
    expect(differ("CAP_NET_ADMIN")).toEqual([]);
  });
});
