/** `POST /containers/create`: Config, HostConfig and NetworkingConfig in one flat body. @module */
import type { ContainerConfig, HostConfig, NetworkingConfig } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import { containerConfig } from "./container-config.ts";
import { asObject, int } from "./fields.ts";
import { hostConfig, networkingConfig } from "./host-config.ts";

export interface CreateBody {
  readonly config: ContainerConfig;
  readonly hostConfig: HostConfig;
  readonly networkingConfig: NetworkingConfig;
  readonly warnings: readonly string[];
}

/** Parses and defaults a create body as an API of this minor version means it. Throws EngineError invalid. */
export function parseCreateBody(body: unknown, minor: number): CreateBody {
  if (body === undefined || body === null) throw new EngineError("invalid", "config cannot be empty in order to create a container");
  const source = asObject(body, "");
  const config = containerConfig(source, "");
  const host = hostConfig(source.HostConfig, "HostConfig");
  const networking = networkingConfig(source.NetworkingConfig, "NetworkingConfig");
  const warnings: string[] = [];
  olderClients(config, host, minor);
  if (minor < 42) kernelMemory(source.HostConfig, warnings);
  mountRules(host, minor);
  macAddress(config, host, networking, minor, warnings);
  return { config, hostConfig: host, networkingConfig: networking, warnings };
}

/** Fields that a version did not know yet are ignored in its requests, as Docker does. */
function olderClients(config: ContainerConfig, host: HostConfig, minor: number): void {
  if (minor < 42) host.ConsoleSize = [0, 0];
  if (minor < 43) delete host.Annotations;
  if (minor < 44 && config.Healthcheck) delete config.Healthcheck.StartInterval;
  if (minor < 44) {
    for (const mount of host.Mounts ?? []) {
      if (mount.Type === "bind" && mount.ReadOnly) mount.BindOptions = { ...mount.BindOptions, ReadOnlyNonRecursive: true };
    }
  }
}

/** Linux 5.16 has it no more, API 1.42 neither. */
function kernelMemory(host: unknown, warnings: string[]): void {
  const limit = typeof host === "object" && host !== null && "KernelMemory" in host ? int(host.KernelMemory, "HostConfig.KernelMemory") : 0;
  if (limit === 0) return;
  if (limit > 0 && limit < 4 * 1024 * 1024) throw new EngineError("invalid", "Minimum kernel memory limit allowed is 4MB");
  warnings.push("Specifying a kernel memory limit is deprecated and will be removed in a future release.");
}

function mountRules(host: HostConfig, minor: number): void {
  for (const mount of host.Mounts ?? []) {
    const bad = (why: string) => new EngineError("invalid", `invalid mount config for type "${mount.Type}": ${why}`);
    if (minor < 45 && mount.VolumeOptions?.Subpath) throw new EngineError("invalid", "VolumeOptions.Subpath needs API v1.45 or newer");
    if (minor < 48 && mount.Type === "image") throw new EngineError("invalid", 'Mount type "Image" needs API v1.48 or newer');
    if (mount.Target === "") throw bad("field Target must not be empty");
    if (minor < 42) continue;
    if (mount.BindOptions && mount.Type !== "bind") throw bad("field BindOptions must not be specified");
    if (mount.VolumeOptions && mount.Type !== "volume") throw bad("field VolumeOptions must not be specified");
    if (mount.TmpfsOptions && mount.Type !== "tmpfs") throw bad("field TmpfsOptions must not be specified");
  }
}

/** Since 1.44 a MAC address belongs to an endpoint; the old container-wide field still names that of the main network. */
function macAddress(config: ContainerConfig, host: HostConfig, networking: NetworkingConfig, minor: number, warnings: string[]): void {
  if (minor < 44) for (const endpoint of Object.values(networking.EndpointsConfig)) delete endpoint.MacAddress;
  const given = config.MacAddress;
  if (given === undefined) return;
  if (!/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(given)) throw new EngineError("invalid", `invalid MAC address: ${given.slice(0, 60)}`);
  if (minor >= 44) warnings.push("The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.");
  const mode = host.NetworkMode;
  if (mode === "host" || mode === "none" || mode.startsWith("container:")) {
    throw new EngineError("invalid", "conflicting options: mac-address and the network mode");
  }
  const endpoints = networking.EndpointsConfig;
  const main = endpoints[mode] ?? { IPAMConfig: null, Links: null, Aliases: null, DriverOpts: null };
  if (main.MacAddress !== undefined && main.MacAddress !== given) {
    throw new EngineError("invalid", "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty");
  }
  endpoints[mode] = { ...main, MacAddress: given };
}
