/**
 * Refuses what Docker refuses of a container's configuration, in its words. Pure.
 * @module
 */
import { healthCheckOf } from "#container/health/health-check.ts";
import { validateLogConfig } from "#container/logs/log-drivers.ts";
import { parseSignal } from "#container/signals.ts";
import { validateRestartPolicy } from "#container/restart-policy.ts";
import type { ContainerConfig, HealthConfig, HostConfig } from "#core/container-config.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { refuse, validateResources } from "./validate-resources.ts";

/** @throws EngineError "invalid". Returns warnings. */
export function validateConfig(config: ContainerConfig, host: HostConfig, facts: HostFacts): string[] {
  validateContainerConfig(config);
  validateHostConfig(host);
  validateModes(config, host);
  validateLogConfig(host.LogConfig);
  const warnings = validateResources(host, facts);
  if (host.OomKillDisable === true && host.Memory === 0)
    warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.");
  return warnings;
}

function validateContainerConfig(config: ContainerConfig): void {
  if (config.WorkingDir !== "" && !config.WorkingDir.startsWith("/"))
    refuse(`the working directory '${config.WorkingDir}' is invalid, it needs to be an absolute path`);
  for (const entry of config.Env ?? []) if (entry === "" || entry.startsWith("=")) refuse(`invalid environment variable: ${entry}`);
  if (config.StopSignal !== undefined && config.StopSignal !== "") parseSignal(config.StopSignal);
  if (config.Healthcheck !== undefined) validateHealth(config.Healthcheck);
  if (config.Hostname.length > 64) refuse(`invalid hostname: ${config.Hostname}: longer than 64 bytes`);
}

/** 1 ms in ns. */
const SHORTEST = 1_000_000;

function validateHealth(health: HealthConfig): void {
  const [type, ...command] = health.Test ?? [];
  if ((type === "TCP" && command.length !== 1) || (type === "HTTP" && command.length !== 1 && command.length !== 2))
    refuse(`Test in Healthcheck has ${type} without one address${type === "HTTP" ? " (which certificates in PEM may follow)" : ""}`);
  if (type === "HTTP" || type === "TCP") healthCheckOf({ Healthcheck: health });
  if ((type === "CMD" || type === "CMD-SHELL") && command.length === 0) refuse(`Test in Healthcheck has ${type} without a command`);
  for (const key of ["Interval", "Timeout", "StartPeriod", "StartInterval"] as const) {
    const value = health[key] ?? 0;
    if (value !== 0 && value < SHORTEST) refuse(`${key} in Healthcheck cannot be less than 1ms`);
  }
  if ((health.Retries ?? 0) < 0) refuse("Retries in Healthcheck cannot be negative");
}

function validateHostConfig(host: HostConfig): void {
  validateRestartPolicy(host.RestartPolicy);
  if (host.AutoRemove && host.RestartPolicy.Name !== "" && host.RestartPolicy.Name !== "no") refuse("can't create 'AutoRemove' container with restart policy");
  for (const entry of host.ExtraHosts ?? []) if (!/^[^:=]+[:=].+$/.test(entry)) refuse(`bad format for add-host: "${entry}"`);
  for (const [port, bindings] of Object.entries(host.PortBindings ?? {})) {
    const [, number] = /^([0-9]{1,5})\/(tcp|udp|sctp)$/.exec(port) ?? [];
    if (number === undefined || Number(number) > 65535) refuse(`invalid port specification: "${port}"`);
    for (const { HostPort } of bindings ?? [])
      if (!/^([0-9]{1,5}(-[0-9]{1,5})?)?$/.test(HostPort) || HostPort.split("-").some((p) => Number(p) > 65535))
        refuse(`invalid port specification: "${HostPort}"`);
  }
  for (const path of [...(host.MaskedPaths ?? []), ...(host.ReadonlyPaths ?? [])]) if (!path.startsWith("/")) refuse(`invalid path: ${path}: must be absolute`);
  if (host.WherryRootfs !== undefined && !host.WherryRootfs.startsWith("/"))
    refuse(`the root directory '${host.WherryRootfs}' is invalid, it needs to be an absolute path`);
}

function validateModes(config: ContainerConfig, host: HostConfig): void {
  for (const [what, mode] of [
    ["network", host.NetworkMode],
    ["pid", host.PidMode],
    ["ipc", host.IpcMode],
    ["uts", host.UTSMode],
  ] as const) {
    if (mode === "container:") refuse(what === "network" ? "invalid container format container:<name|id>" : `invalid ${what} mode: ${mode}`);
  }
  if (!["", "host", "private", "shareable", "none"].includes(host.IpcMode) && !host.IpcMode.startsWith("container:"))
    refuse(`invalid IPC mode: ${host.IpcMode}`);
  if (!["", "host"].includes(host.PidMode) && !host.PidMode.startsWith("container:")) refuse(`invalid PID mode: ${host.PidMode}`);
  if (!["", "host"].includes(host.UTSMode)) refuse(`invalid UTS mode: ${host.UTSMode}`);
  if (!["", "host", "private"].includes(host.CgroupnsMode)) refuse(`invalid cgroup namespace mode: ${host.CgroupnsMode}`);
  if (host.UTSMode === "host" && config.Hostname !== "") refuse("conflicting options: hostname and the UTS mode");
  if (host.NetworkMode === "host" && (host.Links?.length ?? 0) > 0)
    refuse("conflicting options: host type networking can't be used with links. This would result in undefined behavior");
  if (!host.NetworkMode.startsWith("container:")) return;
  const conflicts: readonly [boolean, string][] = [
    [config.Hostname !== "", "hostname and the network mode"],
    [(host.Links?.length ?? 0) > 0, "container type network can't be used with links. This would result in undefined behavior"],
    [(host.Dns?.length ?? 0) > 0, "dns and the network mode"],
    [(host.ExtraHosts?.length ?? 0) > 0, "custom host-to-IP mapping and the network mode"],
    [config.MacAddress !== undefined && config.MacAddress !== "", "mac-address and the network mode"],
    [Object.keys(host.PortBindings ?? {}).length > 0 || host.PublishAllPorts, "port publishing and the container type network mode"],
    [Object.keys(config.ExposedPorts ?? {}).length > 0, "port exposing and the container type network mode"],
  ];
  for (const [is, text] of conflicts) if (is) refuse(`conflicting options: ${text}`);
}
