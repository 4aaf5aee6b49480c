/** Every system call tried in a container under the default profile: as the filter says, and as Debian's runc does it with the same profile. */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { probeHost } from "#linux/probe-host.ts";
import { seccompFor, seccompProgram } from "#runtime/mod.ts";
import { runFilter } from "../../src/linux/bpf/interpreter.ts";
import { RuntimeUnderTest, whyNot, wherryRuntime } from "../integration/oci-runtime.fixture.ts";

const facts = await probeHost();
const needs = process.getuid?.() !== 0 ? "needs root" : facts.kernel.arch !== "x86_64" ? "knows the entries of x86_64 only" : undefined;
if (needs !== undefined) console.log(`skipped: the system call table ${needs}`);
const noRunc = needs ?? whyNot("runc");
if (noRunc !== undefined) console.log(`skipped: nothing is compared with runc: ${noRunc}`);
const defaults = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
  .split(" ")
  .map((name) => `CAP_${name}`);
const minusOne = Array.from({ length: 6 }, () => 2n ** 64n - 1n);
const entries = { x86_64: [0xc000003e, 0], x32: [0xc000003e, 0x40000000], i386: [0x40000003, 0] } as const;

describe.skipIf(needs !== undefined)("system calls", () => {
  const ours = new RuntimeUnderTest(wherryRuntime);
  const theirs = new RuntimeUnderTest("runc");
  afterAll(() => {
    ours.dispose();
    theirs.dispose();
  });

  /** What each call answers, with the profile as it is for these capabilities; the process itself has Docker's. */
  function table(runtime: RuntimeUnderTest, capabilities: readonly string[]): string[] {
    const seccomp = seccompFor("builtin", capabilities, facts);
    const bundle = runtime.bundle("exec /syscalls", (spec) => {
      spec.process.noNewPrivileges = false;
      spec.process.capabilities = { bounding: defaults, effective: defaults, permitted: defaults };
      if (spec.linux !== undefined && seccomp !== undefined) spec.linux.seccomp = structuredClone(seccomp);
    });
    mkdirSync(join(bundle, "rootfs"), { recursive: true });
    const source = fileURLToPath(new URL("syscalls.c", import.meta.url));
    execFileSync("gcc", ["-O1", "-static", "-Wall", "-o", join(bundle, "rootfs/syscalls"), source]);
    const { code, stdout, stderr } = runtime.call(["run", "--bundle", bundle, runtime.id()]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    return stdout.trim().split("\n");
  }

  for (const [what, capabilities] of [
    ["Docker's capabilities", defaults],
    ["every capability", [...defaults, "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_TIME", "CAP_SYS_NICE", "CAP_SYS_RAWIO", "CAP_SYSLOG", "CAP_BPF"]],
  ] as const)
    it(`answer as the filter says and as under runc, with ${what}`, () => {
      const answers = table(ours, capabilities);
      expect(answers.length).toBeGreaterThan(1400);
      const program = seccompProgram(seccompFor("builtin", capabilities, facts), facts) ?? new Uint8Array();
      const wrong: string[] = [];
      for (const line of answers) {
        const [entry = "", number = "", answer] = line.split(" ");
        const [arch, bit] = entries[entry as keyof typeof entries];
        const args = entry === "i386" ? minusOne.map((n) => BigInt.asUintN(32, n)) : minusOne;
        // uretprobe and uprobe (since 6.14) pass every filter: the kernel itself put them into the program, elsewhere they are SIGILL.
        if (entry === "i386" && answer === "absent") continue; // this kernel has no such entry
        if (entry === "x86_64" && (number === "335" || number === "336")) continue;
        const { result } = runFilter(program, { nr: Number(number) | bit, arch, args });
        const refused = { 327681: "EPERM", 327718: "ENOSYS" }[result];
        if (refused !== undefined && answer !== refused) wrong.push(`${line}, but the filter says ${refused}`);
        if (answer === "killed") wrong.push(line);
      }
      expect(wrong).toEqual([]);
      if (noRunc !== undefined) return;
      const other = new Map(table(theirs, capabilities).map((line) => [line.replace(/ \S+$/, ""), line]));
      // Debian's libseccomp does not know the newest calls that the profile names, and leaves them out.
      const newest = Math.max(...[...other.values()].filter((line) => /^x86_64 .*(EPERM|other)$/.test(line)).map((line) => Number(line.split(" ")[1])));
      expect(newest).toBeGreaterThanOrEqual(450);
      const known = (line: string) => Number(line.split(" ")[1]) <= newest || Number(line.split(" ")[1]) >= 512;
      const different = answers.filter((line) => known(line) && other.get(line.replace(/ \S+$/, "")) !== line);
      expect(different.map((line) => `${line}; runc: ${other.get(line.replace(/ \S+$/, ""))}`)).toEqual([]);
    });
});
