/** config-linux.md: namespaces, users, devices, sysctl, personality, resctrl; runtime-linux.md. @module */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readlinkSync, writeFileSync } from "node:fs";
import { type Case, type Lab, Skip, set } from "./case.ts";
import { consoleServer } from "../integration/oci-runtime.fixture.ts";

const files = { pid: "pid", network: "net", mount: "mnt", ipc: "ipc", uts: "uts", user: "user", cgroup: "cgroup", time: "time" } as const;
type Kind = keyof typeof files;
const map = [{ containerID: 0, hostID: 100_000, size: 65_536 }];
const link = (kind: Kind) => `readlink /proc/self/ns/${files[kind]}`;
const without = (kind: Kind) => (spec: Parameters<NonNullable<Parameters<Lab["make"]>[1]>>[0]) => {
  spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== kind);
  if (kind === "uts") delete spec.hostname;
};
const own = (kind: Kind) => readlinkSync(`/proc/self/ns/${files[kind]}`);

/** A process in a new namespace of this kind, for as long as `use` takes. */
async function inhabited(kind: Kind, use: (pid: number) => void): Promise<void> {
  const flag = { pid: "--pid", network: "--net", mount: "--mount", ipc: "--ipc", uts: "--uts", user: "--user", cgroup: "--cgroup", time: "--time" }[kind];
  const child = spawn("unshare", [flag, ...(kind === "pid" ? ["--fork", "--kill-child"] : []), "sleep", "30"], {
    stdio: "ignore",
  });
  try {
    const file = kind === "pid" || kind === "time" ? `${files[kind]}_for_children` : files[kind];
    for (let i = 0; i < 250; i++) {
      if (existsSync(`/proc/${child.pid}/ns/${file}`) && readlinkSync(`/proc/${child.pid}/ns/${file}`) !== own(kind)) break;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    use(child.pid ?? 0);
  } finally {
    child.kill("SIGKILL");
  }
}

const namespaces: Case[] = [
  ...(["pid", "network", "ipc", "uts", "cgroup"] as const).flatMap((kind): Case[] => [
    {
      section: "config-linux.md Namespaces",
      must: `${kind}: a new one`,
      check(lab) {
        const { stdout, stderr } = lab.sees(link(kind));
        assert.match(stdout, /\[\d+\]/, stderr);
        assert.notEqual(stdout.trim(), own(kind));
      },
    },
    {
      section: "config-linux.md Namespaces",
      must: `${kind}: the runtime's when it is not listed`,
      check: (lab) =>
        lab.shows(own(kind), link(kind), (spec) => {
          without(kind)(spec);
          // A fresh sysfs needs a network namespace that is its own; a fresh mqueue an IPC namespace.
          if (kind === "network") spec.mounts = spec.mounts.filter(({ type }) => type !== "sysfs" && type !== "cgroup");
        }),
    },
    {
      section: "config-linux.md Namespaces",
      must: `${kind}: the one that path names`,
      check: (lab) =>
        inhabited(kind, (pid) => {
          const path = `/proc/${pid}/ns/${files[kind]}${kind === "pid" ? "_for_children" : ""}`;
          lab.shows(readlinkSync(path), link(kind), (spec) => {
            spec.linux.namespaces = spec.linux.namespaces.map((entry) => (entry.type === kind ? { type: kind, path } : entry));
            if (kind === "uts") delete spec.hostname;
          });
        }),
    },
  ]),
  {
    section: "config-linux.md Namespaces",
    must: "mount: a new one",
    check: (lab) => assert.notEqual(lab.sees(link("mount")).stdout.trim(), own("mount")),
  },
  {
    section: "config-linux.md Namespaces",
    must: "a path that is no namespace of that type is an error",
    check: (lab) =>
      lab.refuses((spec) => {
        spec.linux.namespaces = spec.linux.namespaces.map((entry) => (entry.type === "ipc" ? { type: "ipc", path: "/proc/self/ns/uts" } : entry));
      }),
  },
  {
    section: "config-linux.md Namespaces",
    must: "a path that does not exist is an error",
    check: (lab) => lab.refuses((spec) => spec.linux.namespaces.splice(0, 1, { type: "pid", path: "/proc/0/ns/pid" })),
  },
  {
    section: "config-linux.md Namespaces",
    must: "a path is absolute",
    check: (lab) =>
      lab.refuses((spec) => {
        spec.linux.namespaces = spec.linux.namespaces.map((entry) => (entry.type === "ipc" ? { type: "ipc", path: "ns/ipc" } : entry));
      }),
  },
  {
    section: "config-linux.md Namespaces",
    must: "a type twice is an error",
    check: (lab) => lab.refuses((spec) => spec.linux.namespaces.push({ type: "ipc" })),
  },
  {
    section: "config-linux.md Namespaces",
    must: "a type that does not exist is an error",
    check: (lab) => lab.refuses((spec) => spec.linux.namespaces.push({ type: "nonsense" } as never)),
  },
  {
    section: "config-linux.md User namespace mappings",
    must: "a new user namespace has the mappings",
    check(lab) {
      const bundle = lab.make("cat /proc/self/uid_map /proc/self/gid_map", (spec) => {
        spec.linux.namespaces.push({ type: "user" });
        set(spec.linux, { uidMappings: map, gidMappings: map });
      });
      spawnSync("chown", ["-R", "100000:100000", `${bundle}/rootfs`]);
      const { stdout, stderr } = lab.call(["run", "--bundle", bundle, lab.id()]);
      assert.match(stdout, /^(\s*0\s+100000\s+65536\n){2}$/, stderr);
    },
  },
  {
    section: "config-linux.md Namespaces",
    must: "user: the one that path names",
    check: (lab) =>
      inhabited("user", (pid) => {
        const path = `/proc/${pid}/ns/user`;
        for (const ids of ["uid_map", "gid_map"]) writeFileSync(`/proc/${pid}/${ids}`, "0 100000 65536");
        const bundle = lab.make(`${link("user")}; cat /proc/self/uid_map`, (spec) => {
          spec.linux.namespaces.push({ type: "user", path });
          spec.process.user = { uid: 0, gid: 0 };
        });
        spawnSync("chown", ["-R", "100000:100000", `${bundle}/rootfs`]);
        const { stdout, stderr } = lab.call(["run", "--bundle", bundle, lab.id()]);
        assert.equal(stdout.replace(/ +/g, " ").trim(), `${readlinkSync(path)}\n 0 100000 65536`, stderr);
      }),
  },
  {
    section: "config-linux.md Offset for Time Namespace",
    must: "the offsets of a new time namespace",
    check: (lab) =>
      lab.shows(/^monotonic +1000 +5\nboottime +2000 +0$/, "cat /proc/self/timens_offsets", (spec) => {
        spec.linux.namespaces.push({ type: "time" });
        set(spec.linux, { timeOffsets: { monotonic: { secs: 1000, nanosecs: 5 }, boottime: { secs: 2000 } } });
      }),
  },
];

const defaultNodes = { null: "1:3", zero: "1:5", full: "1:7", random: "1:8", urandom: "1:9", tty: "5:0" };
const device = { type: "c" as const, major: 10, minor: 229 };

const devices: Case[] = [
  ...Object.entries(defaultNodes).map(
    ([name, numbers]): Case => ({
      section: "config-linux.md Default Devices",
      must: `/dev/${name}`,
      check: (lab) => lab.shows(`character special file ${numbers} 666`, `busybox stat -c '%F %t:%T %a' /dev/${name}`),
    }),
  ),
  {
    section: "config-linux.md Default Devices",
    must: "/dev/ptmx is the one of the container's /dev/pts",
    check: (lab) => lab.shows("5:2", "busybox stat -L -c %t:%T /dev/ptmx"),
  },
  {
    section: "config-linux.md Default Devices",
    must: "/dev/console is the terminal, if there is one; consoleSize is its size",
    async check(lab) {
      const bundle = lab.make("echo $(tty) $(stty size) $(busybox stat -c %t /dev/console); sleep 100", (spec) => {
        spec.process.terminal = true;
        spec.process.consoleSize = { height: 30, width: 90 };
      });
      const id = lab.id();
      const server = await consoleServer(`${bundle}/console`);
      assert.equal(lab.create(id, bundle, ["--console-socket", `${bundle}/console`]).code, 0);
      lab.call(["start", id]);
      assert.match(await server.line, /^\/dev\/(pts\/0|console) 30 90 88$/);
      lab.call(["delete", "--force", id]);
    },
  },
  {
    section: "config-linux.md Devices",
    must: "a device with its mode and owner",
    check: (lab) =>
      lab.shows("character special file a:e5 640 5:6", "busybox stat -c '%F %t:%T %a %u:%g' /dev/fuse", (spec) => {
        spec.linux.devices = [{ path: "/dev/fuse", ...device, fileMode: 0o640, uid: 5, gid: 6 }];
      }),
  },
  {
    section: "config-linux.md Devices",
    must: "a FIFO",
    check: (lab) => lab.shows("fifo", "busybox stat -c %F /dev/pipe", (spec) => (spec.linux.devices = [{ path: "/dev/pipe", type: "p" }])),
  },
  {
    section: "config-linux.md Devices",
    must: "a block device",
    check: (lab) =>
      lab.shows(
        "block special file 7:9",
        "busybox stat -c '%F %t:%T' /dev/loop9",
        (spec) => (spec.linux.devices = [{ path: "/dev/loop9", type: "b", major: 7, minor: 9 }]),
      ),
  },
  {
    section: "config-linux.md Devices",
    must: "a path outside of /dev",
    check: (lab) => lab.shows("a:e5", "busybox stat -c %t:%T /sub/dir/fuse", (spec) => (spec.linux.devices = [{ path: "/sub/dir/fuse", ...device }])),
  },
  {
    section: "config-linux.md Devices",
    must: "a file that is there and is not that device is an error",
    check: (lab) => lab.refuses((spec) => (spec.linux.devices = [{ path: "/file", ...device }])),
  },
  {
    section: "config-linux.md Devices",
    must: "a type that does not exist is an error",
    check: (lab) => lab.refuses((spec) => (spec.linux.devices = [{ path: "/dev/x", ...device, type: "z" as never }])),
  },
  ...Object.entries({ fd: "/proc/self/fd", stdin: "/proc/self/fd/0", stdout: "/proc/self/fd/1", stderr: "/proc/self/fd/2" }).map(
    ([name, target]): Case => ({
      section: "runtime-linux.md Dev symbolic links",
      must: `/dev/${name}`,
      check: (lab) => lab.shows(target, `readlink /dev/${name}`),
    }),
  ),
  {
    section: "runtime-linux.md File descriptors",
    must: "standard input, output and error are the caller's, and no other is open",
    check: (lab) => lab.shows("0\n1\n2\n3", "exec busybox ls /proc/self/fd"), // 3 is what ls reads
  },
];

const others: Case[] = [
  {
    section: "config-linux.md Sysctl",
    must: "values are set in the container's namespaces",
    check: (lab) =>
      lab.shows("1 77777", "echo $(cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax)", (spec) => {
        spec.linux.sysctl = { "net.ipv4.ip_forward": "1", "kernel.msgmax": "77777" };
      }),
  },
  {
    section: "config-linux.md Sysctl",
    must: "a setting that does not exist is an error",
    check: (lab) => lab.refuses((spec) => (spec.linux.sysctl = { "net.ipv4.nonsense": "1" })),
  },
  {
    section: "config-linux.md Sysctl",
    must: "a setting of the host's is not changed through a namespace that is the host's",
    check: (lab) => lab.refuses((spec) => (spec.linux.sysctl = { "kernel.panic_on_io_nmi": "0" })),
  },
  {
    section: "config-linux.md Personality",
    must: "LINUX32",
    check: (lab) => lab.shows(/^i[3-6]86$|^armv/, "busybox uname -m", (spec) => set(spec.linux, { personality: { domain: "LINUX32" } })),
  },
  {
    section: "config-linux.md Personality",
    must: "LINUX",
    check: (lab) => lab.shows(/64$/, "busybox uname -m", (spec) => set(spec.linux, { personality: { domain: "LINUX" } })),
  },
  {
    section: "config-linux.md Personality",
    must: "another domain is an error",
    check: (lab) => lab.refuses((spec) => set(spec.linux, { personality: { domain: "NONSENSE" } })),
  },
  {
    section: "config-linux.md IntelRdt",
    must: "an error where no resctrl is mounted",
    check(lab) {
      if (existsSync("/sys/fs/resctrl/schemata")) throw new Skip("this machine has resctrl");
      lab.refuses((spec) => set(spec.linux, { intelRdt: { closID: "conformance" } }));
    },
  },
  {
    section: "config-linux.md Mount Label",
    must: "mounts carry the SELinux label",
    check() {
      throw new Skip("this kernel runs without SELinux");
    },
  },
];

export const linuxCases: readonly Case[] = [...namespaces, ...devices, ...others];
