/** What `info` and `version` answer. Pure. @module */
import { rfc3339Nano } from "#core/clock.ts";
import type { SystemInfo } from "#engine/mod.ts";
import type { SystemInfoJson, VersionJson } from "#api/types/system-json.ts";
import { apiVersion, minApiVersion } from "#api/types/version.ts";

/** Go's name of an architecture, which Docker's API uses in `version` and images. */
export function goArch(architecture: string): string {
  return { x86_64: "amd64", aarch64: "arm64" }[architecture] ?? architecture;
}

export interface HostNow {
  readonly nowNs: bigint;
  readonly ipv4Forwarding: boolean;
  readonly runtime: string;
}

export function versionJson(info: SystemInfo, version: string, runtime: string): VersionJson {
  const details = {
    ApiVersion: apiVersion,
    Arch: goArch(info.architecture),
    BuildTime: "",
    Experimental: "false",
    GitCommit: "",
    GoVersion: runtime,
    KernelVersion: info.kernelVersion,
    MinAPIVersion: minApiVersion,
    Os: "linux",
  };
  return {
    Platform: { Name: "wherry" },
    Components: [{ Name: "Engine", Version: version, Details: details }],
    Version: version,
    ApiVersion: apiVersion,
    MinAPIVersion: minApiVersion,
    GitCommit: "",
    GoVersion: runtime,
    Os: "linux",
    Arch: details.Arch,
    KernelVersion: info.kernelVersion,
  };
}

export function infoJson(info: SystemInfo, version: string, host: HostNow, minor: number): SystemInfoJson {
  const can = (flag: string): boolean => info.cgroupFlags[flag] ?? false;
  const commit = minor < 49 ? { ID: "", Expected: "" } : { ID: "" };
  return {
    ID: info.id,
    Containers: info.containers.total,
    ContainersRunning: info.containers.running,
    ContainersPaused: info.containers.paused,
    ContainersStopped: info.containers.stopped,
    Images: info.images,
    Driver: info.driver,
    DriverStatus: info.driverStatus.map(([name, value]) => [name, value]),
    Plugins: { Volume: ["local"], Network: [...info.networkDrivers], Authorization: null, Log: [...info.logDrivers] },
    MemoryLimit: can("MemoryLimit"),
    SwapLimit: can("SwapLimit"),
    CpuCfsPeriod: can("CpuCfsPeriod"),
    CpuCfsQuota: can("CpuCfsQuota"),
    CPUShares: can("CPUShares"),
    CPUSet: can("CPUSet"),
    PidsLimit: can("PidsLimit"),
    IPv4Forwarding: host.ipv4Forwarding,
    ...(minor < 50 ? { BridgeNfIptables: false, BridgeNfIp6tables: false } : {}),
    Debug: false,
    NFd: info.fds,
    OomKillDisable: can("OomKillDisable"),
    NGoroutines: info.goroutineLike,
    SystemTime: rfc3339Nano(host.nowNs),
    LoggingDriver: info.logDriver,
    CgroupDriver: info.cgroupDriver,
    CgroupVersion: String(info.cgroupVersion),
    NEventsListener: info.eventListeners,
    KernelVersion: info.kernelVersion,
    OperatingSystem: info.operatingSystem,
    OSVersion: info.osVersion,
    OSType: "linux",
    Architecture: info.architecture,
    IndexServerAddress: "https://index.docker.io/v1/",
    RegistryConfig: {
      ...(minor < 49 ? { AllowNondistributableArtifactsCIDRs: null, AllowNondistributableArtifactsHostnames: null } : {}),
      ...registryJson(info.registry),
    },
    NCPU: info.cpus,
    MemTotal: info.memoryBytes,
    GenericResources: null,
    DockerRootDir: info.rootDir,
    HttpProxy: withoutPassword(info.registry.proxy.http),
    HttpsProxy: withoutPassword(info.registry.proxy.https),
    NoProxy: info.registry.proxy.none ?? "",
    Name: info.name,
    Labels: [...info.labels],
    ExperimentalBuild: false,
    ServerVersion: version,
    Runtimes: { wherry: { path: "wherry-helper" } },
    DefaultRuntime: "wherry",
    Swarm: { NodeID: "", NodeAddr: "", LocalNodeState: "inactive", ControlAvailable: false, Error: "", RemoteManagers: null },
    // Containers always outlive the daemon; Docker calls that live restore.
    LiveRestoreEnabled: true,
    Isolation: "",
    InitBinary: "wherry-helper",
    ContainerdCommit: commit,
    RuncCommit: commit,
    InitCommit: commit,
    SecurityOptions: [...info.securityOptions],
    CDISpecDirs: [...info.cdiSpecDirs],
    Warnings: info.warnings.length === 0 ? null : [...info.warnings],
  };
}

/** Hosts and ranges are told apart; mirrors of Docker Hub have a list of their own. */
function registryJson({
  insecure,
  mirrors,
}: SystemInfo["registry"]): Omit<SystemInfoJson["RegistryConfig"], "AllowNondistributableArtifactsCIDRs" | "AllowNondistributableArtifactsHostnames"> {
  const hub = [...(mirrors["docker.io"] ?? [])].map((url) => `${url.replace(/\/$/, "")}/`);
  const hosts = insecure.filter((entry) => !entry.includes("/"));
  const index = (Name: string, Secure: boolean, Official: boolean, Mirrors: string[]) => [Name, { Mirrors, Name, Official, Secure }] as const;
  return {
    IndexConfigs: Object.fromEntries([index("docker.io", true, true, hub), ...hosts.map((host) => index(host, false, false, []))]),
    InsecureRegistryCIDRs: ["::1/128", "127.0.0.0/8", ...insecure.filter((entry) => entry.includes("/"))],
    Mirrors: hub,
  };
}

function withoutPassword(url: string | undefined): string {
  return (url ?? "").replace(/^([a-z]+:\/\/)[^@/]*@/i, "$1xxxxx:xxxxx@");
}
