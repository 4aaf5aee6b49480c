/** `spec` and `features`. @module */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { EngineError } from "#core/errors.ts";
import { capabilitiesOf } from "#linux/capabilities.ts";
import { defaultMaskedPaths, defaultReadonlyPaths, mountOptionNames, seccompArchitectures, seccompFlagNames, seccompOperators } from "#runtime/mod.ts";
import { hostFacts, type RuntimeContext } from "./context.ts";
import { isSet, type Parsed, flagValue } from "./flags.ts";
import { OCI_VERSION } from "./state.ts";

const capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
const kernelMounts = [
  { destination: "/proc", type: "proc", source: "proc" },
  { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "strictatime", "mode=755", "size=65536k"] },
  { destination: "/dev/pts", type: "devpts", source: "devpts", options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
  { destination: "/dev/shm", type: "tmpfs", source: "shm", options: ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
  { destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: ["nosuid", "noexec", "nodev"] },
  { destination: "/sys", type: "sysfs", source: "sysfs", options: ["nosuid", "noexec", "nodev", "ro"] },
  { destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["nosuid", "noexec", "nodev", "relatime", "ro"] },
];

/** What `runc spec` writes: an interactive shell with few rights. */
export function exampleSpec(): object {
  return {
    ociVersion: OCI_VERSION,
    process: {
      terminal: true,
      user: { uid: 0, gid: 0 },
      args: ["sh"],
      env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
      cwd: "/",
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
      rlimits: [{ type: "RLIMIT_NOFILE", hard: 1024, soft: 1024 }],
      noNewPrivileges: true,
    },
    root: { path: "rootfs", readonly: true },
    hostname: "wherry",
    mounts: kernelMounts,
    linux: {
      resources: { devices: [{ allow: false, access: "rwm" }] },
      namespaces: ["pid", "network", "ipc", "uts", "mount", "cgroup"].map((type) => ({ type })),
      maskedPaths: defaultMaskedPaths,
      readonlyPaths: defaultReadonlyPaths,
    },
  };
}

export async function spec(_context: RuntimeContext, flags: Parsed): Promise<number> {
  if (isSet(flags, "rootless")) throw new EngineError("unsupported", "--rootless is not supported: this runtime needs root");
  const path = join(flagValue(flags, "bundle") ?? ".", "config.json");
  if (existsSync(path)) throw new EngineError("conflict", "File config.json exists. Remove it first");
  writeFileSync(path, `${JSON.stringify(exampleSpec(), undefined, "\t")}\n`, { mode: 0o666 });
  return 0;
}

export async function features(): Promise<number> {
  const facts = await hostFacts();
  const answer = {
    ociVersionMin: "1.0.0",
    ociVersionMax: OCI_VERSION,
    hooks: ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
    mountOptions: mountOptionNames(),
    linux: {
      namespaces: ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
      capabilities: capabilitiesOf((1n << BigInt(facts.lastCap + 1)) - 1n),
      cgroup: { v1: true, v2: true, systemd: true, systemdUser: false, rdma: true },
      seccomp: {
        enabled: facts.seccomp.supported,
        actions: facts.seccomp.actions.map((name) => `SCMP_ACT_${name === "user_notif" ? "NOTIFY" : name.toUpperCase()}`),
        operators: seccompOperators,
        archs: seccompArchitectures(facts.kernel.arch),
        knownFlags: seccompFlagNames,
        supportedFlags: seccompFlagNames,
      },
      // Of the runtime, as the specification wants it; whether this kernel has the module shows when a label is asked for.
      apparmor: { enabled: true },
      selinux: { enabled: true },
      intelRdt: { enabled: false },
      mountExtensions: { idmap: { enabled: facts.idmappedMounts } },
    },
  };
  process.stdout.write(`${JSON.stringify(answer, undefined, 2)}\n`);
  return 0;
}
