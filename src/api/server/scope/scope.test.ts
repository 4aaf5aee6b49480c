import { describe, expect, it } from "vitest";
import { hostConfig } from "#api/types/host-config.ts";
import { rights } from "#api/types/socket-json.ts";
import { routes } from "../mod.ts";
import { parseSocket } from "../scoped-sockets.ts";
import { checkHostConfig, checkNetwork, checkResources, checkVolumeOptions, namedContainers, namedVolumes } from "./container-rules.ts";
import { knownRoutes, parseRights, Rights } from "./rights.ts";

const host = (given: object) => hostConfig(given, "HostConfig");

/** What no socket with limited rights has, whatever it allows. */
const ownersOnly = [
  /^(GET|POST|PUT|DELETE) \/(plugins|nodes|services|tasks|secrets|configs|swarm)/,
  /^POST \/(build\/prune|build\/cancel|session|grpc)$/,
  /^\S+ \/wherry\/(explain|system\/check|images\/mounts|images\/import-store|storage\/compare|dns|sessions|sockets|registr|images\/copy|manifest|catalog|tags)/,
];

describe("rights", () => {
  it("the table knows no route that is not there, and only some are the owner's alone", () => {
    const all = routes.map(([method, pattern]) => `${method} ${pattern}`);
    expect(knownRoutes.filter((route) => !all.includes(route))).toEqual([]);
    expect(new Set(knownRoutes).size).toBe(knownRoutes.length);
    const owners = all.filter((route) => !knownRoutes.includes(route));
    expect(owners.filter((route) => !ownersOnly.some((pattern) => pattern.test(route)))).toEqual([]);
    const everything = new Rights(rights);
    for (const [method, pattern] of routes) {
      if (owners.includes(`${method} ${pattern}`)) expect(() => everything.check(method, pattern), `${method} ${pattern}`).toThrow("limited rights");
      else everything.check(method, pattern);
    }
  });

  it("a right opens its routes and no other; writing includes reading", () => {
    const read = new Rights(["containers:read"]);
    read.check("GET", "/_ping");
    read.check("GET", "/containers/json");
    for (const [method, pattern] of [
      ["POST", "/containers/create"],
      ["POST", "/containers/{id}/exec"],
      ["GET", "/containers/{id}/archive"],
      ["GET", "/images/json"],
      ["POST", "/no/such/route"],
    ] as const)
      expect(() => read.check(method, pattern)).toThrow(expect.objectContaining({ code: "denied" }));
    new Rights(["containers:write"]).check("GET", "/containers/json");
  });

  it("are written by kind or one by one", () => {
    expect(parseRights(["containers:read", "events"])).toEqual(["containers:read", "events"]);
    expect(parseRights(["events", "containers"])).toEqual(["containers:read", "containers:write", "containers:exec", "events"]);
    for (const wrong of [[], [""], ["container"], ["containers:"], ["containers:root"], ["*"]])
      expect(() => parseRights(wrong)).toThrow(expect.objectContaining({ code: "invalid" }));
  });
});

describe("a socket's description", () => {
  const good = { Name: "team", Path: "/run/team.sock", Allow: ["events"] };
  it("has defaults that let root's group in", () => expect(parseSocket(good)).toEqual({ ...good, Labels: {}, Mode: "660", Uid: 0, Gid: 0 }));
  it.each([
    { Name: "../x" },
    { Name: "" },
    { Path: "run/x" },
    { Path: "/run/../etc/x" },
    { Path: `/${"x".repeat(120)}` },
    { Mode: "4777" },
    { Mode: "rw" },
    { Allow: "events" },
    { Allow: [1] },
    { Allow: [] },
    { Labels: { "": "x" } },
    { Labels: { a: 1 } },
    { Uid: -1 },
    { Gid: 1.5 },
  ])("%j is refused", (wrong) => expect(() => parseSocket({ ...good, ...wrong })).toThrow(expect.objectContaining({ code: "invalid" })));
});

describe("what a container may not be without the right host", () => {
  it.each([
    { Privileged: true },
    { Binds: ["/:/host"] },
    { Binds: ["/etc/../:/host:ro"] },
    { Binds: ["../x:/host"] },
    { Binds: ["~:/host"] },
    { Mounts: [{ Type: "bind", Source: "/", Target: "/host" }] },
    { Mounts: [{ Type: "volume", Source: "../../x", Target: "/x" }] },
    {
      Mounts: [
        { Type: "volume", Source: "v", Target: "/x", VolumeOptions: { DriverConfig: { Name: "local", Options: { type: "none", o: "bind", device: "/" } } } },
      ],
    },
    { Mounts: [{ Type: "cluster", Source: "v", Target: "/x" }] },
    { PidMode: "host" },
    { IpcMode: "host" },
    { UTSMode: "host" },
    { UsernsMode: "host" },
    { UsernsMode: "keep-id" },
    { CgroupnsMode: "host" },
    { NetworkMode: "host" },
    { Devices: [{ PathOnHost: "/dev/sda", PathInContainer: "/dev/sda", CgroupPermissions: "rwm" }] },
    { DeviceCgroupRules: ["a *:* rwm"] },
    { DeviceRequests: [{ Driver: "cdi", DeviceIDs: ["x/y=z"] }] },
    { BlkioDeviceReadBps: [{ Path: "/dev/sda", Rate: 1 }] },
    { CapAdd: ["SYS_ADMIN"] },
    { CapAdd: ["cap_sys_ptrace"] },
    { CapAdd: ["ALL"] },
    { SecurityOpt: ["seccomp=unconfined"] },
    { SecurityOpt: ["apparmor=unconfined"] },
    { SecurityOpt: ["systempaths=unconfined"] },
    { SecurityOpt: ["label=disable"] },
    { SecurityOpt: ["no-new-privileges=false"] },
    { MaskedPaths: [] },
    { ReadonlyPaths: [] },
    { CgroupParent: "/" },
    { Cgroup: "x" },
    { VolumeDriver: "other" },
    { StorageOpt: { size: "1T" } },
    { LogConfig: { Type: "syslog", Config: { "syslog-address": "unix:///run/docker.sock" } } },
    { LogConfig: { Type: "journald", Config: {} } },
    { Sysctls: { "kernel.core_pattern": "|/x" } },
    { Sysctls: { "vm.overcommit_memory": "1" } },
    { OomScoreAdj: -1000 },
    { OomKillDisable: true },
    { CpuRealtimeRuntime: 950_000 },
    { WherryRootfs: "/" },
    { WherryUnified: { "cgroup.subtree_control": "+cpu" } },
    { Annotations: { x: "y" } },
  ])("%j", (given) => expect(() => checkHostConfig(host(given))).toThrow(expect.objectContaining({ code: "denied", hint: "it needs the right host" })));

  it.each([
    {},
    {
      Binds: ["data:/data", "data:/more:ro"],
      Mounts: [
        { Type: "volume", Source: "v", Target: "/v" },
        { Type: "tmpfs", Target: "/t" },
      ],
    },
    { Memory: 1e8, NanoCpus: 5e8, PidsLimit: 100, ShmSize: 1e8, Ulimits: [{ Name: "nofile", Soft: 1, Hard: 2 }], Init: true },
    { NetworkMode: "container:other", PidMode: "container:other", IpcMode: "shareable", CgroupnsMode: "private" },
    { CapAdd: ["CHOWN", "cap_net_raw"], CapDrop: ["ALL"], SecurityOpt: ["no-new-privileges"], ReadonlyRootfs: true },
    { PortBindings: { "80/tcp": [{ HostPort: "8080" }] }, RestartPolicy: { Name: "always" }, LogConfig: { Type: "local", Config: {} } },
    { Sysctls: { "net.ipv4.ip_forward": "1" }, Runtime: "runc", Isolation: "default", OomScoreAdj: 100, ContainerIDFile: "x" },
  ])("what stays within it may be: %j", (given) => checkHostConfig(host(given)));

  it("every option of a host configuration is either known to be harmless or refused", () => {
    // One that nobody has thought of.
    expect(() => checkHostConfig({ ...host({}), SomethingNew: "x" } as ReturnType<typeof host>)).toThrow("SomethingNew");
  });

  it("what it names is found", () => {
    const given = host({
      Binds: ["a:/a", "/anonymous"],
      Mounts: [{ Type: "volume", Source: "b", Target: "/b" }],
      VolumesFrom: ["c:ro"],
      Links: ["/d:alias"],
      NetworkMode: "container:e",
      PidMode: "container:f",
      IpcMode: "container:g",
    });
    expect(namedVolumes(given)).toEqual(["a", "b"]);
    expect(namedContainers(given)).toEqual(["e", "f", "g", "c", "d"]);
  });

  it("limits, volumes and networks neither", () => {
    expect(() => checkResources({ Devices: [{ PathOnHost: "/dev/sda", PathInContainer: "/x", CgroupPermissions: "r" }] })).toThrow("Devices");
    checkResources({ Memory: 1, PidsLimit: 5 });
    expect(() => checkVolumeOptions({ type: "none", o: "bind", device: "/" }, "local")).toThrow("driver options");
    expect(() => checkVolumeOptions({ type: "nfs", o: "addr=1.2.3.4", device: ":/x" }, "local")).toThrow("driver options");
    expect(() => checkVolumeOptions({}, "other")).toThrow("volume driver");
    checkVolumeOptions({ type: "tmpfs", device: "tmpfs", o: "size=1m" }, "local");
    expect(() => checkNetwork({ Driver: "macvlan" })).toThrow("macvlan");
    expect(() => checkNetwork({ Options: { "com.docker.network.bridge.name": "docker0" } })).toThrow("bridge.name");
    expect(() => checkNetwork({ IPAM: { Config: [{ Subnet: "8.8.8.0/24" }] } })).toThrow("public");
    checkNetwork({ Driver: "bridge", IPAM: { Config: [{ Subnet: "172.30.0.0/16" }] }, Options: { "com.docker.network.driver.mtu": "1400" } });
  });
});
