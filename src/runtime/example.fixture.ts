/** A container as `docker create busybox` asks for it: what tests start from. @module */
import { type ContainerConfig, emptyHostConfig, type HostConfig } from "#core/container-config.ts";
import type { HostFacts } from "#linux/host-facts.ts";

export const exampleConfig: ContainerConfig = {
  Hostname: "c0ffee00c0ff",
  Domainname: "",
  User: "",
  AttachStdin: false,
  AttachStdout: true,
  AttachStderr: true,
  Tty: false,
  OpenStdin: false,
  StdinOnce: false,
  Env: [],
  Cmd: ["sh"],
  Image: "busybox",
  Volumes: null,
  WorkingDir: "",
  Entrypoint: null,
  OnBuild: null,
  Labels: {},
};

export const exampleHostConfig: HostConfig = {
  ...emptyHostConfig,
  LogConfig: { Type: "json-file", Config: {} },
  NetworkMode: "none",
  IpcMode: "private",
  ShmSize: 67108864,
};

/** A new kernel with cgroup v2 and everything. */
export const exampleFacts: HostFacts = {
  kernel: { release: "6.18.0", major: 6, minor: 18, arch: "x86_64" },
  cgroup: { mode: "v2", v2Root: "/sys/fs/cgroup", v1: {}, v2Controllers: ["cpuset", "cpu", "io", "memory", "pids"], own: { "": "/" }, kill: true },
  overlay: { supported: true, lowerdirPlus: true, layerFds: true, metacopyDefault: false, redirectDirDefault: false, indexDefault: false },
  mountSetattr: true,
  idmappedMounts: true,
  seccomp: { supported: true, actions: ["kill_process", "kill_thread", "trap", "errno", "user_notif", "trace", "log", "allow"] },
  lsm: [],
  namespaces: ["pid", "mnt", "uts", "ipc", "net", "user", "cgroup", "time"],
  mqueue: true,
  capabilities: "000001ffffffffff",
  lastCap: 40,
  cpus: 4,
  memoryBytes: 8589934592,
  swapAccounting: true,
  rlimitCaps: {},
  oomScoreAdjMin: -1000,
};
