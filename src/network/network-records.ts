/**
 * Network records: the three that are always there, and the making of new ones.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import { newId } from "#core/ids.ts";
import { nowNs, rfc3339Nano } from "#core/clock.ts";
import { AddressPool } from "./address-pool.ts";
import { formatAddress, formatSubnet, overlap, parseCidr, type Subnet } from "./ipv4.ts";
import type { NetworkRecord } from "./mod.ts";

/** Docker's options of a bridge network. */
export const BRIDGE_OPTION = {
  name: "com.docker.network.bridge.name",
  icc: "com.docker.network.bridge.enable_icc",
  masquerade: "com.docker.network.bridge.enable_ip_masquerade",
  hostBinding: "com.docker.network.bridge.host_binding_ipv4",
  isDefault: "com.docker.network.bridge.default_bridge",
  mtu: "com.docker.network.driver.mtu",
} as const;

export const PREDEFINED: ReadonlySet<string> = new Set(["bridge", "host", "none"]);

function record(name: string, driver: string, fields: Partial<NetworkRecord> = {}): NetworkRecord {
  return {
    Name: name,
    Id: newId(),
    Created: rfc3339Nano(nowNs()),
    Scope: "local",
    Driver: driver,
    EnableIPv6: false,
    IPAM: { Driver: "default", Options: null, Config: [] },
    Internal: false,
    Attachable: false,
    Ingress: false,
    Options: {},
    Labels: {},
    ...fields,
  };
}

export const hostNetwork = (): NetworkRecord => record("host", "host");
export const noneNetwork = (): NetworkRecord => record("none", "null");

/** The network of containers that ask for none. */
export function defaultBridge(interfaceName: string, subnet: Subnet, gateway: number): NetworkRecord {
  return record("bridge", "bridge", {
    IPAM: { Driver: "default", Options: null, Config: [{ Subnet: formatSubnet(subnet), Gateway: formatAddress(gateway) }] },
    Options: {
      [BRIDGE_OPTION.isDefault]: "true",
      [BRIDGE_OPTION.icc]: "true",
      [BRIDGE_OPTION.masquerade]: "true",
      [BRIDGE_OPTION.hostBinding]: "0.0.0.0",
      [BRIDGE_OPTION.name]: interfaceName,
      [BRIDGE_OPTION.mtu]: "1500",
    },
  });
}

/** A user's bridge network; `choose` finds a range when none is given, `inUse` are the other networks' ranges. EngineError with Docker's texts. */
export function userNetwork(options: Partial<NetworkRecord> & { readonly Name: string }, inUse: readonly Subnet[], choose: () => Subnet): NetworkRecord {
  const { Name: name, Driver: driver = "bridge" } = options;
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name)) {
    throw new EngineError("invalid", `invalid network name "${name}": only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`);
  }
  if (PREDEFINED.has(name) || name === "default") throw new EngineError("denied", `operation is not permitted on predefined ${name} network`);
  if (driver === "host" || driver === "null") throw new EngineError("denied", `only one instance of "${driver}" network is allowed`);
  if (driver !== "bridge") throw new EngineError("not-found", `could not find plugin ${driver} in v1 plugin registry: plugin not found`);
  if (options.EnableIPv6 === true) throw new EngineError("unsupported", "IPv6 networks are not supported yet", { hint: "create the network without --ipv6" });
  const ipamDriver = options.IPAM?.Driver ?? "";
  if (ipamDriver !== "" && ipamDriver !== "default") throw new EngineError("not-found", `could not find IPAM driver ${ipamDriver}`);
  const configs = options.IPAM?.Config ?? [];
  if (configs.length > 1) throw new EngineError("invalid", "bridge driver doesn't support multiple subnets");
  const given = configs[0]?.Subnet === undefined || configs[0].Subnet === "" ? undefined : configs[0];
  if (given === undefined && (configs[0]?.Gateway || configs[0]?.IPRange)) throw new EngineError("invalid", "a gateway or range needs a subnet");
  const config = given ?? { Subnet: formatSubnet(choose()) };
  const pool = new AddressPool(config, name);
  if (inUse.some((used) => overlap(used, pool.subnet)))
    throw new EngineError("denied", "invalid pool request: Pool overlaps with other one on this address space");
  return record(name, "bridge", {
    IPAM: { Driver: "default", Options: options.IPAM?.Options ?? {}, Config: [{ ...config, Gateway: formatAddress(pool.gateway) }] },
    Internal: options.Internal ?? false,
    Attachable: options.Attachable ?? false,
    Options: validOptions(options.Options ?? {}),
    Labels: options.Labels ?? {},
  });
}

function validOptions(options: Record<string, string>): Record<string, string> {
  const name = options[BRIDGE_OPTION.name];
  if (name !== undefined && !/^[^\s/:]{1,15}$/.test(name))
    throw new EngineError("invalid", `invalid interface name "${name}": 1 to 15 characters without spaces, / and :`);
  const mtu = options[BRIDGE_OPTION.mtu];
  if (mtu !== undefined && !/^[0-9]{1,5}$/.test(mtu)) throw new EngineError("invalid", `invalid MTU "${mtu}"`);
  for (const key of [BRIDGE_OPTION.icc, BRIDGE_OPTION.masquerade]) {
    const value = options[key];
    if (value !== undefined && !/^(true|false|0|1)$/.test(value)) throw new EngineError("invalid", `invalid value "${value}" for ${key}: want true or false`);
  }
  return options;
}

/** What the driver needs to know of a bridge network. */
export interface BridgeSettings {
  readonly interfaceName: string;
  readonly subnet: Subnet;
  readonly gateway: number;
  readonly mtu: number;
  readonly icc: boolean;
  readonly masquerade: boolean;
  readonly internal: boolean;
  /** Address that ports without one are published on; undefined = all, IPv6 too. */
  readonly hostBinding: string | undefined;
}

export function bridgeSettings({ Id, Options, Internal, IPAM }: NetworkRecord): BridgeSettings {
  const pool = parseCidr(IPAM.Config[0]?.Subnet ?? "");
  const gateway = parseCidr(`${IPAM.Config[0]?.Gateway ?? ""}/32`);
  if (pool === undefined || gateway === undefined) throw new EngineError("corrupt", `network ${Id} is stored without a subnet or gateway`);
  const flag = (key: string) => !/^(false|0)$/.test(Options[key] ?? "true");
  const binding = Options[BRIDGE_OPTION.hostBinding];
  return {
    interfaceName: Options[BRIDGE_OPTION.name] ?? `br-${Id.slice(0, 12)}`,
    subnet: { network: pool.network, prefix: pool.prefix },
    gateway: gateway.address,
    mtu: Number(Options[BRIDGE_OPTION.mtu] ?? 1500),
    icc: flag(BRIDGE_OPTION.icc),
    masquerade: flag(BRIDGE_OPTION.masquerade),
    internal: Internal,
    hostBinding: binding === undefined || binding === "" || binding === "0.0.0.0" ? undefined : binding,
  };
}
