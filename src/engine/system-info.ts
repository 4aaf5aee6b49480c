/** `info`: what this engine and its host are. @module */
import { readdir, readFile } from "node:fs/promises";
import { arch, cpus, hostname, release, totalmem } from "node:os";
import { defaultCdiDirs } from "./cdi-devices.ts";
import type { EngineContext } from "./context.ts";
import { idmapSupport } from "./idmap-support.ts";
import type { SystemInfo } from "./mod.ts";
import { logDrivers } from "#container/logs/log-drivers.ts";
import { whyNoSelinux } from "./selinux.ts";
import { version } from "./version.ts";

const architectures: Readonly<Record<string, string>> = { x64: "x86_64", arm64: "aarch64", arm: "armv7l", ia32: "i386" };

export async function systemInfo(ctx: EngineContext): Promise<SystemInfo> {
  const counts = { total: 0, running: 0, paused: 0, stopped: 0 };
  for (const { state } of ctx.registry.all()) {
    counts.total++;
    counts[state.status === "running" || state.status === "restarting" ? "running" : state.status === "paused" ? "paused" : "stopped"]++;
  }
  const [images, driverStatus, os, fds] = await Promise.all([ctx.images.list(), ctx.layers.driver.status(), operatingSystem(), readdir("/proc/self/fd")]);
  const cgroup = ctx.cgroups.info();
  return {
    id: ctx.engineId,
    name: hostname(),
    rootDir: ctx.options.dataRoot,
    execRoot: ctx.options.execRoot,
    containers: counts,
    images: images.length,
    driver: ctx.layers.driver.name,
    driverStatus,
    cgroupDriver: ctx.cgroups.driver,
    cgroupVersion: ctx.cgroups.version,
    cgroupFlags: cgroup.flags,
    warnings: [
      ...cgroup.warnings,
      ...(ctx.options.selinuxEnabled === true && ctx.selinux === undefined ? [`WARNING: No SELinux labels for containers: ${whyNoSelinux(ctx.facts)}`] : []),
      ...(await userNamespaceWarnings(ctx)),
    ],
    kernelVersion: release(),
    operatingSystem: os.name,
    osVersion: os.version,
    architecture: architectures[arch()] ?? arch(),
    cpus: cpus().length,
    memoryBytes: totalmem(),
    securityOptions: securityOptions(ctx),
    cdiSpecDirs: ctx.options.cdiSpecDirs ?? defaultCdiDirs,
    logDrivers,
    logDriver: ctx.options.defaultLogDriver ?? "json-file",
    networkDrivers: ["bridge", "host", "null"],
    labels: ctx.options.labels ?? [],
    registry: ctx.registries.config,
    startedAtNs: ctx.startedAtNs,
    version,
    fds: fds.length,
    goroutineLike: process.getActiveResourcesInfo().length,
    eventListeners: ctx.events.listeners,
  };
}

async function userNamespaceWarnings(ctx: EngineContext): Promise<string[]> {
  if (!ctx.facts.namespaces.includes("user")) return ["WARNING: No user namespaces for containers: this kernel has none"];
  const { root } = await idmapSupport(ctx);
  return root === undefined ? [] : [`WARNING: Containers with a user namespace get private copies of their images' files: ${root}`];
}

function securityOptions({ facts, idRanges, selinux }: EngineContext): string[] {
  return [
    ...(facts.lsm.includes("apparmor") ? ["name=apparmor"] : []),
    ...(facts.seccomp.supported ? ["name=seccomp,profile=builtin"] : []),
    ...(selinux === undefined ? [] : ["name=selinux"]),
    ...(idRanges.remap === undefined ? [] : ["name=userns"]),
    ...(facts.namespaces.includes("cgroup") ? ["name=cgroupns"] : []),
  ];
}

/** From os-release(5). */
async function operatingSystem(): Promise<{ readonly name: string; readonly version: string }> {
  for (const path of ["/etc/os-release", "/usr/lib/os-release"]) {
    const text = await readFile(path, "utf8").catch(() => undefined); // the next place, or "Linux"
    if (text === undefined) continue;
    const field = (key: string) => new RegExp(`^${key}=(["']?)(.*)\\1$`, "m").exec(text)?.[2] ?? "";
    return { name: field("PRETTY_NAME") || "Linux", version: field("VERSION_ID") };
  }
  return { name: "Linux", version: "" };
}
