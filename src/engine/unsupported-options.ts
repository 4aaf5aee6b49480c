/**
 * What a create request may ask for and this engine does not do: refused where the container would not be what was asked for, warned about where it runs
 * without it. No accepted option is ignored in silence. Pure.
 * @module
 */
import type { ContainerConfig, EndpointConfig, HostConfig, NetworkingConfig } from "#core/container-config.ts";
import { unknownTest } from "#container/health/health-check.ts";
import { EngineError } from "#core/errors.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { endpointExtras } from "#network/mod.ts";
import { parseSecurityOptions } from "#runtime/security-options.ts";
import { whyNoSelinux } from "./selinux.ts";
import { refuse } from "./validate-resources.ts";

export interface CreateOptions {
  readonly config: ContainerConfig;
  readonly hostConfig: HostConfig;
  readonly networkingConfig: NetworkingConfig;
}

/** @throws EngineError "invalid" or "unsupported". Returns warnings. */
export function checkSupported({ config, hostConfig, networkingConfig }: CreateOptions, facts: HostFacts, selinux: boolean): string[] {
  refuseForeign(hostConfig);
  refuseMounts(hostConfig, facts);
  return [
    ...windowsOnly(hostConfig),
    ...logOptions(hostConfig),
    ...securityLabels(hostConfig, facts, selinux),
    ...health(config),
    ...ports(hostConfig),
    ...Object.entries(networkingConfig.EndpointsConfig).flatMap(([network, endpoint]) => checkEndpoint(network, endpoint)),
  ];
}

const unsupported = (message: string, hint: string): EngineError => new EngineError("unsupported", message, { hint });

function refuseForeign(host: HostConfig): void {
  if (!["", "default"].includes(host.Isolation.toLowerCase())) refuse(`Invalid isolation: "${host.Isolation}" - linux only supports 'default'`);
  if (host.Cgroup !== "") throw unsupported(`the cgroup of another container cannot be joined (Cgroup "${host.Cgroup}")`, "use CgroupParent");
  if (host.ShmSize < 0) refuse("SHM size can not be less than 0");
  for (const option of Object.keys(host.StorageOpt ?? {})) {
    if (option !== "size") refuse(`Unknown option ${option}`);
    if (host.WherryRootfs !== undefined) refuse("conflicting options: --storage-opt and --rootfs");
  }
}

function refuseMounts(host: HostConfig, facts: HostFacts): void {
  for (const { Type, ReadOnly, BindOptions: options } of host.Mounts ?? []) {
    if (options?.ReadOnlyForceRecursive !== true) continue;
    const invalid = (why: string) => refuse(`invalid mount config for type "${Type}": ${why}`);
    if (ReadOnly !== true) invalid("mount is not read-only, and ReadOnlyForceRecursive is set");
    if (options.NonRecursive === true || options.ReadOnlyNonRecursive === true)
      invalid("ReadOnlyForceRecursive contradicts NonRecursive and ReadOnlyNonRecursive");
    if (!facts.mountSetattr) throw unsupported("this kernel cannot make a mount recursively read-only", "it takes Linux 5.12 (mount_setattr)");
  }
}

function windowsOnly(host: HostConfig): string[] {
  if (host.IOMaximumBandwidth !== 0) refuse("Invalid QoS settings: linux does not support configuration of maximum bandwidth");
  if (host.IOMaximumIOps !== 0) refuse("Invalid QoS settings: linux does not support configuration of maximum IOPs");
  return [
    ...(host.CpuPercent > 0 ? ["linux does not support CPU percent. Percent discarded."] : []),
    ...(host.CpuCount > 0 ? ["linux does not support CPU count. Count discarded."] : []),
  ];
}

function logOptions({ LogConfig: { Type: type, Config: options } }: HostConfig): string[] {
  return type === "none" ? Object.keys(options).map((key) => `The log option ${key} has no effect: nothing is logged.`) : [];
}

function securityLabels({ SecurityOpt: options, Privileged: privileged }: HostConfig, facts: HostFacts, selinux: boolean): string[] {
  const { lsm } = facts;
  const { apparmor, labels } = parseSecurityOptions(options);
  const why = facts.selinux === undefined ? whyNoSelinux(facts) : "the daemon was started without --selinux-enabled";
  return [
    ...(apparmor === undefined || apparmor === "" || apparmor === "unconfined" || privileged || lsm.includes("apparmor")
      ? []
      : [`This kernel runs without AppArmor: the container runs without the profile "${apparmor}".`]),
    ...(selinux ? [] : labels.filter((label) => label !== "disable").map((label) => `The SELinux option "label=${label}" has no effect: ${why}.`)),
  ];
}

function health(config: ContainerConfig): string[] {
  const unknown = unknownTest(config);
  return unknown === undefined ? [] : [`Unknown healthcheck type '${unknown}' (expected 'CMD'): the container's health is not checked`];
}

function ports({ NetworkMode: mode, PortBindings: bindings, PublishAllPorts: all }: HostConfig): string[] {
  const discards = mode === "host" || mode === "none";
  return discards && (all || Object.keys(bindings ?? {}).length > 0) ? [`Published ports are discarded when using ${mode} network mode`] : [];
}

/** Also of `network connect`. */
export function checkEndpoint(network: string, endpoint: EndpointConfig): string[] {
  const { IPv4Address: address = "", IPv6Address: address6 = "" } = endpoint.IPAMConfig ?? {};
  const { unknown } = endpointExtras(endpoint);
  const bare = network === "host" || network === "none";
  if (bare && (address !== "" || address6 !== "")) refuse("user specified IP address is supported on user defined networks only");
  const discarded = (what: string, given: boolean) =>
    given ? [`${what} of the endpoint on network ${network} is not supported by this engine. It is discarded.`] : [];
  return [
    ...discarded(`The driver option ${unknown.join(", ")}`, unknown.length > 0),
    ...discarded("MacAddress", bare && endpoint.MacAddress !== undefined && endpoint.MacAddress !== ""),
  ];
}
