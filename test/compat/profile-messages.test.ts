/** What a create request is refused for, and what it is warned about: the same as dockerd's, in its words. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { httpCall, type Reply, TestDaemon, whyNot } from "./daemon.ts";
import { Dockerd } from "./dockerd.ts";
import { tarOf } from "../fixtures.ts";

type Host = Readonly<Record<string, unknown>>;

/** HostConfigs; each is created (not started) by both. */
const cases: Readonly<Record<string, Host>> = {
  "memory too small": { Memory: 4096 },
  "swap below memory": { Memory: 33554432, MemorySwap: 16777216 },
  "swap without memory": { MemorySwap: 33554432 },
  swappiness: { MemorySwappiness: 101 },
  "reservation too small": { MemoryReservation: 4096 },
  "reservation above memory": { Memory: 33554432, MemoryReservation: 67108864 },
  "oom-kill-disable without memory": { OomKillDisable: true },
  "oom-kill-disable": { OomKillDisable: true, Memory: 33554432 },
  "nano cpus": { NanoCpus: 1 },
  "nano cpus and period": { NanoCpus: 500000000, CpuPeriod: 100000 },
  "nano cpus and quota": { NanoCpus: 500000000, CpuQuota: 100000 },
  "cfs period": { CpuPeriod: 10 },
  "cfs quota": { CpuQuota: 10 },
  "cpuset that is none": { CpusetCpus: "a-b" },
  "cpuset without such": { CpusetCpus: "100" },
  "cpuset mems that are none": { CpusetMems: "x" },
  "cpuset mems without such": { CpusetMems: "77" },
  "blkio weight": { BlkioWeight: 5 },
  "shm size": { ShmSize: -1 },
  "oom score": { OomScoreAdj: 1001 },
  "capability unknown": { CapAdd: ["NET_FOO"] },
  "capability to drop unknown": { CapDrop: ["CAP_FOO"] },
  "capabilities all and prefixed": { CapAdd: ["ALL"], CapDrop: ["cap_net_raw"] },
  "ipc mode": { IpcMode: "foo" },
  "pid mode": { PidMode: "foo" },
  "uts mode": { UTSMode: "foo" },
  "cgroupns mode": { CgroupnsMode: "foo" },
  "cgroupns private and privileged": { CgroupnsMode: "private", Privileged: true },
  "userns mode": { UsernsMode: "foo:bar" },
  "security option": { SecurityOpt: ["foo"] },
  "security option of an unknown kind": { SecurityOpt: ["foo=bar"] },
  "no-new-privileges": { SecurityOpt: ["no-new-privileges:maybe"] },
  "no-new-privileges off": { SecurityOpt: ["no-new-privileges:false"] },
  systempaths: { SecurityOpt: ["systempaths=confined"] },
  label: { SecurityOpt: ["label=type:foo"] },
  "label disable": { SecurityOpt: ["label=disable"] },
  "seccomp that is no JSON": { SecurityOpt: ["seccomp={"] },
  "restart policy": { RestartPolicy: { Name: "foo" } },
  "auto-remove and restart": { AutoRemove: true, RestartPolicy: { Name: "always" } },
  "masked path": { MaskedPaths: ["x"] },
  "read-only path": { ReadonlyPaths: ["x"] },
  runtime: { Runtime: "nonexistent" },
  isolation: { Isolation: "hyperv" },
  "weight of a device": { BlkioWeightDevice: [{ Path: "/dev/zzz", Weight: 500 }] },
  "rate of a device": { BlkioDeviceReadBps: [{ Path: "/dev/zzz", Rate: 500 }] },
  "device driver": { DeviceRequests: [{ Driver: "", Count: 1, Capabilities: [["gpu"]] }] },
  "device driver by name": { DeviceRequests: [{ Driver: "acme", Count: 1, Capabilities: [["gpu"]] }] },
  "realtime runtime": { CpuRealtimeRuntime: 1000 },
  "io bandwidth": { IOMaximumBandwidth: 1 },
  "io rate": { IOMaximumIOps: 1 },
  "cpu percent": { CpuPercent: 10 },
  "kernel memory": { KernelMemory: 33554432 },
  "pids limit": { PidsLimit: 10 },
  "privileged with mounts over proc": { Privileged: true, Tmpfs: { "/proc/x": "" } },
  tmpfs: { Tmpfs: { "/t": "foo=bar" } },
  ulimit: { Ulimits: [{ Name: "foo", Soft: 1, Hard: 1 }] },
  sysctl: { Sysctls: { "kernel.foo": "1" } },
};

/** Where ours says or does something else, and why. */
const later = "refused already when it is created";
const differs: Readonly<Record<string, string>> = {
  "nano cpus": "Docker's own text says from 0.01, and 1 billionth is less",
  "blkio weight": "refused also where the kernel has no weights",
  "weight of a device": "refused also where the kernel has no weights",
  "capabilities all and prefixed": "runs where the engine itself lacks capabilities",
  "cgroupns private and privileged": "runs where the engine itself lacks capabilities",
  "ipc mode": later,
  "pid mode": "dockerd takes any text for the default",
  "uts mode": "dockerd takes any text for the default",
  "userns mode": "dockerd takes any text for the default",
  label: "no accepted option is ignored in silence",
  "seccomp that is no JSON": later,
  "restart policy": "text of Docker 25",
  "masked path": "a relative path would mask nothing",
  "read-only path": "a relative path would protect nothing",
  runtime: "text of Docker 23",
  "rate of a device": later,
  "device driver": later,
  "device driver by name": later,
  "realtime runtime": "the runtimes' own words for what the kernel answers",
  "privileged with mounts over proc": "a mount below /proc is refused as such",
  tmpfs: later,
  ulimit: later,
  sysctl: later,
};
/** Refused by both; at another time, in the same words. */
const sameWords = ["rate of a device", "device driver", "device driver by name", "tmpfs"];

describe.skipIf(whyNot() !== undefined || Dockerd.missing !== undefined)(
  `profiles beside dockerd${Dockerd.missing === undefined ? "" : ` (${Dockerd.missing})`}`,
  () => {
    let work: string;
    let dockerd: Dockerd;
    let daemon: TestDaemon;
    beforeAll(async () => {
      work = mkdtempSync(join(tmpdir(), "wherry-pm-"));
      dockerd = new Dockerd(work);
      daemon = new TestDaemon();
      await Promise.all([daemon.start(), dockerd.start()]);
      const tar = tarOf([
        { name: "bin", type: "dir" },
        { name: "bin/sh", data: "x", mode: 0o755 },
      ]);
      for (const socket of sockets()) expect((await httpCall(socket, "POST", "/v1.41/images/create?fromSrc=-&repo=small&tag=latest", tar)).status).toBe(200);
    }, 60_000);
    afterAll(async () => {
      await dockerd?.stop();
      await daemon?.stop();
      rmSync(work, { recursive: true, force: true });
    });
    const sockets = () => [dockerd.host, daemon.host].map((host) => host.replace("unix://", ""));

    /** What creating (and where that is answered, starting) says: the warnings, or the reason of a refusal. */
    async function answer(socket: string, host: Host): Promise<string> {
      const reply: Reply = await httpCall(socket, "POST", "/v1.41/containers/create", {
        Image: "small",
        Cmd: ["sh"],
        HostConfig: { NetworkMode: "none", ...host },
      });
      const { Id: id, Warnings: warnings, message } = reply.json<{ Id?: string; Warnings?: string[]; message?: string }>();
      if (id === undefined) return `refused: ${message}`;
      const started = await httpCall(socket, "POST", `/v1.41/containers/${id}/start`);
      await httpCall(socket, "DELETE", `/v1.41/containers/${id}?force=1`);
      const why = started.status < 300 ? "" : started.json<{ message: string }>().message;
      // The image's only program is none: whoever comes so far has been accepted.
      return why === "" || why.includes("exec format error") ? `accepted: ${JSON.stringify(warnings ?? [])}` : `refused at start: ${why}`;
    }

    test.each(Object.entries(cases))("%s", async (name, host) => {
      const [docker, ours] = await Promise.all(sockets().map((socket) => answer(socket, host)));
      const note = differs[name];
      if (note === undefined) expect(ours).toBe(docker);
      else expect(ours, `${note}; dockerd says: ${docker}`).not.toBe(docker);
      const text = (answered = "") => answered.replace(/^refused[a-z ]*: /, "");
      if (sameWords.includes(name)) expect(text(ours)).toBe(text(docker));
    });
  },
);
