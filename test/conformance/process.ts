/** config.md: version, root, process, names, annotations. @module */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { type Case, Skip, set } from "./case.ts";

const status = (field: string) => `busybox sed -n 's/^${field}:[ \t]*//p' /proc/self/status`;
const caps = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
/** Bits 0, 5 and 10. */
const capMask = "0000000000000421";

const versionAndRoot: Case[] = [
  ...["", "1.0", "text", "2.0.0"].map(
    (ociVersion): Case => ({
      section: "config.md Specification version",
      must: `ociVersion "${ociVersion}" is refused: no SemVer 2.0.0 of a major version that is supported`,
      check: (lab) => lab.refuses((spec) => (spec.ociVersion = ociVersion)),
    }),
  ),
  {
    section: "config.md Root",
    must: "a directory exists at root.path, or it is an error",
    check: (lab) => lab.refuses((spec) => (spec.root.path = "absent")),
  },
  {
    section: "config.md Root",
    must: "readonly: the root filesystem is read-only inside",
    check: (lab) => lab.shows("no", "busybox touch /x 2>/dev/null && echo yes || echo no", (spec) => (spec.root.readonly = true)),
  },
  {
    section: "config.md Root",
    must: "not readonly by default",
    check: (lab) => lab.shows("yes", "busybox touch /x && echo yes", (spec) => delete spec.root.readonly),
  },
  {
    section: "config.md Extensibility",
    must: "an unknown property is no error",
    check: (lab) => lab.shows("ran", "echo ran", (spec) => set(spec, { unknownToAll: { a: [1] } })),
  },
  {
    section: "config.md Root",
    must: "path is required",
    check: (lab) => lab.refuses((spec) => delete (spec.root as { path?: string }).path),
  },
  {
    section: "config.md Process",
    must: "without a process there is an error, of start at the latest",
    check: (lab) => lab.refuses((spec) => delete (spec as { process?: object }).process),
  },
  {
    section: "config.md Valid values",
    must: "a value of another type is an error",
    check: (lab) => lab.refuses((spec) => set(spec, { hostname: 7 })),
  },
  {
    section: "config.md Annotations",
    must: "a key is not empty",
    check: (lab) => lab.refuses((spec) => set(spec, { annotations: { "": "x" } })),
  },
  {
    section: "config.md Annotations",
    must: "a value is a string",
    check: (lab) => lab.refuses((spec) => set(spec, { annotations: { "com.example.number": 7 } })),
  },
  {
    section: "config.md Annotations",
    must: "an unknown annotation key is no error",
    check: (lab) => lab.shows("ran", "echo ran", (spec) => set(spec, { annotations: { "com.example.unknown": "x" } })),
  },
  {
    section: "config.md Linux hostname",
    must: "hostname is set",
    check: (lab) => lab.shows("myname", "hostname", (spec) => (spec.hostname = "myname")),
  },
  {
    section: "config.md Domainname",
    must: "domainname is set",
    check: (lab) => lab.shows("my.domain", "busybox cat /proc/sys/kernel/domainname", (spec) => (spec.domainname = "my.domain")),
  },
  {
    section: "config.md Linux hostname",
    must: "hostname without a UTS namespace of its own is an error, and the host keeps its name",
    check: (lab) =>
      lab.refuses((spec) => {
        spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== "uts");
        spec.hostname = "conformance-must-not-be-set";
      }),
  },
];

const program: Case[] = [
  {
    section: "config.md Process",
    must: "terminal is false by default: no terminal",
    check: (lab) => lab.shows("no", "test -t 0 && echo yes || echo no", (spec) => delete spec.process.terminal),
  },
  {
    section: "config.md Process",
    must: "cwd is the working directory",
    check: (lab) => lab.shows("/bin", "pwd", (spec) => (spec.process.cwd = "/bin")),
  },
  {
    section: "config.md Process",
    must: "cwd is an absolute path",
    check: (lab) => lab.refuses((spec) => (spec.process.cwd = "bin")),
  },
  {
    section: "config.md Process",
    must: "env is the environment",
    check: (lab) => lab.shows("one two=2", 'echo "$A $B"', (spec) => spec.process.env?.push("A=one", "B=two=2")),
  },
  {
    section: "config.md Process",
    must: "args has at least one entry",
    check: (lab) => lab.refuses((spec) => (spec.process.args = [])),
  },
  {
    section: "config.md Process",
    must: "a program that does not exist is an error of create or start",
    check: (lab) => lab.refuses((spec) => (spec.process.args = ["/absent"])),
  },
  {
    section: "config.md Process",
    must: "args are the arguments; the program is found by PATH",
    check: (lab) => lab.shows("a b|c", "", (spec) => (spec.process.args = ["busybox", "printf", "%s|%s", "a b", "c"])),
  },
  ...(["bounding", "effective", "permitted", "inheritable", "ambient"] as const).map(
    (kind): Case => ({
      section: "config.md Linux Process",
      must: `capabilities.${kind} is the process's set`,
      check: (lab) => {
        const field = { bounding: "CapBnd", effective: "CapEff", permitted: "CapPrm", inheritable: "CapInh", ambient: "CapAmb" }[kind];
        lab.shows(capMask, status(field), (spec) => {
          spec.process.capabilities = { bounding: caps, effective: caps, permitted: caps, inheritable: caps, ambient: caps };
        });
      },
    }),
  ),
  {
    section: "config.md Linux Process",
    must: "no capabilities: none",
    check: (lab) => lab.shows("0000000000000000", status("CapEff"), (spec) => delete spec.process.capabilities),
  },
  {
    section: "config.md Linux Process",
    must: "a capability that the kernel does not know is a warning at most",
    check: (lab) =>
      lab.shows("ran", "echo ran", (spec) => {
        const names = [...caps, "CAP_FUTURE"];
        spec.process.capabilities = { bounding: names, effective: names, permitted: names };
      }),
  },
  {
    section: "config.md Linux Process",
    must: "noNewPrivileges",
    check: (lab) => lab.shows("1", status("NoNewPrivs"), (spec) => (spec.process.noNewPrivileges = true)),
  },
  {
    section: "config.md Linux Process",
    must: "no noNewPrivileges: rights can be gained",
    check: (lab) => lab.shows("0", status("NoNewPrivs"), (spec) => (spec.process.noNewPrivileges = false)),
  },
  {
    section: "config.md Linux Process",
    must: "oomScoreAdj is written",
    check: (lab) => lab.shows("321", "cat /proc/self/oom_score_adj", (spec) => (spec.process.oomScoreAdj = 321)),
  },
  {
    section: "config.md Linux Process",
    must: "without oomScoreAdj it is left alone",
    check: (lab) => lab.shows("0", "cat /proc/self/oom_score_adj", (spec) => delete spec.process.oomScoreAdj),
  },
  {
    section: "config.md POSIX process",
    must: "rlimits: soft and hard",
    check: (lab) =>
      lab.shows("100 200", "busybox awk '/open files/ {print $4, $5}' /proc/self/limits", (spec) => {
        spec.process.rlimits = [{ type: "RLIMIT_NOFILE", soft: 100, hard: 200 }];
      }),
  },
  {
    section: "config.md POSIX process",
    must: "rlimits: a type that the kernel does not know is an error",
    check: (lab) => lab.refuses((spec) => (spec.process.rlimits = [{ type: "RLIMIT_NONSENSE", soft: 1, hard: 1 }])),
  },
  {
    section: "config.md POSIX process",
    must: "rlimits: a type twice is an error",
    check: (lab) =>
      lab.refuses((spec) => {
        spec.process.rlimits = [100, 200].map((n) => ({ type: "RLIMIT_NOFILE", soft: n, hard: n }));
      }),
  },
  {
    section: "config.md POSIX user",
    must: "uid and gid",
    check: (lab) => lab.shows("1000 1001", "echo $(id -u) $(id -g)", (spec) => (spec.process.user = { uid: 1000, gid: 1001 })),
  },
  {
    section: "config.md POSIX user",
    must: "additionalGids, and no others",
    check: (lab) => lab.shows("1001 5 6", "id -G", (spec) => (spec.process.user = { uid: 1000, gid: 1001, additionalGids: [5, 6] })),
  },
  {
    section: "config.md POSIX user",
    must: "umask",
    check: (lab) => lab.shows("0027", "umask", (spec) => (spec.process.user = { uid: 0, gid: 0, umask: 0o27 })),
  },
];

const scheduling: Case[] = [
  {
    section: "config.md Linux Process",
    must: "scheduler: SCHED_BATCH and nice",
    check: (lab) =>
      lab.shows("3 5", "busybox awk '{print $41, $19}' /proc/self/stat", (spec) => set(spec.process, { scheduler: { policy: "SCHED_BATCH", nice: 5 } })),
  },
  {
    section: "config.md Linux Process",
    must: "scheduler: a policy that does not exist is an error",
    check: (lab) => lab.refuses((spec) => set(spec.process, { scheduler: { policy: "SCHED_NONSENSE" } })),
  },
  {
    section: "config.md Linux Process",
    must: "ioPriority",
    check: (lab) =>
      lab.shows(/best-effort.*\b6\b/, "busybox ionice -p $$", (spec) => set(spec.process, { ioPriority: { class: "IOPRIO_CLASS_BE", priority: 6 } })),
  },
  {
    section: "config.md Linux Process",
    must: "ioPriority: a class that does not exist is an error",
    check: (lab) => lab.refuses((spec) => set(spec.process, { ioPriority: { class: "IOPRIO_CLASS_NONSENSE", priority: 1 } })),
  },
  {
    section: "config.md Linux Process",
    must: "execCPUAffinity.final is the affinity of a process that exec starts",
    check: (lab) =>
      lab.created(
        "sleep 100",
        (spec) => set(spec.process, { execCPUAffinity: { final: "1" } }),
        (id) => {
          if (!existsSync("/sys/devices/system/cpu/cpu1")) throw new Skip("this machine has one CPU");
          lab.call(["start", id]);
          assert.equal(lab.call(["exec", id, "sh", "-c", status("Cpus_allowed_list")]).stdout.trim(), "1");
        },
      ),
  },
  {
    section: "config.md Linux Process",
    must: "apparmorProfile is applied where the kernel has AppArmor",
    check: () => {
      throw new Skip("this kernel runs without AppArmor");
    },
  },
  {
    section: "config.md Linux Process",
    must: "selinuxLabel is applied where the kernel has SELinux",
    check: () => {
      throw new Skip("this kernel runs without SELinux");
    },
  },
];
for (const [index, file] of [
  [scheduling.length - 2, "/sys/kernel/security/apparmor/profiles"],
  [scheduling.length - 1, "/sys/fs/selinux/enforce"],
] as const)
  if (existsSync(file)) scheduling.splice(index, 1);

export const processCases: readonly Case[] = [...versionAndRoot, ...program, ...scheduling];
