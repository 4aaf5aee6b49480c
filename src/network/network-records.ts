/**
 * Network records: the three that are always there, and the making of new ones.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import { MACVLAN_MODES, type MacvlanMode } from "#linux/netlink/rtnetlink.ts";
import { newId } from "#core/ids.ts";
import { nowNs, rfc3339Nano } from "#core/clock.ts";
import { AddressPool, chooseIPv6, choosePool, type IpamConfig, subnetOf } from "./address-pool.ts";
import { type Address, type Family, formatAddress, formatSubnet, overlap, parseAddress, parseCidr, type Subnet } from "./ip-address.ts";
import type { NetworkRecord } from "./mod.ts";

/** Docker's options of a bridge network. */
export const BRIDGE_OPTION = {
  name: "com.docker.network.bridge.name",
  icc: "com.docker.network.bridge.enable_icc",
  masquerade: "com.docker.network.bridge.enable_ip_masquerade",
  hostBinding: "com.docker.network.bridge.host_binding_ipv4",
  source4: "com.docker.network.host_ipv4",
  source6: "com.docker.network.host_ipv6",
  trusted: "com.docker.network.bridge.trusted_host_interfaces",
  gatewayMode4: "com.docker.network.bridge.gateway_mode_ipv4",
  gatewayMode6: "com.docker.network.bridge.gateway_mode_ipv6",
  inhibitIPv4: "com.docker.network.bridge.inhibit_ipv4",
  interfacePrefix: "com.docker.network.container_iface_prefix",
  isDefault: "com.docker.network.bridge.default_bridge",
  mtu: "com.docker.network.driver.mtu",
  enableIPv4: "com.docker.network.enable_ipv4",
  enableIPv6: "com.docker.network.enable_ipv6",
} as const;

/** Of an endpoint that has none: on `host` and `none`, and of a container that does not run. */
export const noAddresses = {
  Gateway: "",
  IPAddress: "",
  IPPrefixLen: 0,
  IPv6Gateway: "",
  GlobalIPv6Address: "",
  GlobalIPv6PrefixLen: 0,
  MacAddress: "",
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
export function defaultBridge(interfaceName: string, subnet: Subnet, gateway: Address): NetworkRecord {
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

/** A user's bridge network; `networks` are the ranges of others, `inUse` also what the host has routes for: none of these is chosen. EngineError with Docker's texts. */
export function userNetwork(options: Partial<NetworkRecord> & { readonly Name: string }, networks: readonly Subnet[], inUse: readonly Subnet[]): NetworkRecord {
  const { Name: name, Driver: driver = "bridge" } = options;
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name)) {
    throw new EngineError("invalid", `invalid network name "${name}": only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`);
  }
  if (PREDEFINED.has(name) || name === "default") throw new EngineError("denied", `operation is not permitted on predefined ${name} network`);
  if (driver === "host" || driver === "null") throw new EngineError("denied", `only one instance of "${driver}" network is allowed`);
  if (driver === "ipvlan")
    throw new EngineError("unsupported", "ipvlan networks are not supported by this engine", { hint: "use the driver macvlan, or bridge" });
  if (driver !== "bridge" && driver !== "macvlan")
    throw new EngineError("not-found", `could not find plugin ${driver} in v1 plugin registry: plugin not found`);
  const ipamDriver = options.IPAM?.Driver ?? "";
  if (ipamDriver !== "" && ipamDriver !== "default") throw new EngineError("not-found", `could not find IPAM driver ${ipamDriver}`);
  const enableIPv6 = options.EnableIPv6 === true || /^(true|1)$/.test(options.Options?.[BRIDGE_OPTION.enableIPv6] ?? "");
  if (options.EnableIPv4 === false || (options.EnableIPv4 === undefined && /^(false|0)$/.test(options.Options?.[BRIDGE_OPTION.enableIPv4] ?? "")))
    throw new EngineError("unsupported", `network ${name} without IPv4 is not supported`, {
      hint: "leave --ipv4=false out: its containers have IPv4 addresses besides",
    });
  return record(name, driver, {
    EnableIPv6: enableIPv6,
    IPAM: { Driver: "default", Options: options.IPAM?.Options ?? {}, Config: ranges(name, options.IPAM?.Config ?? [], enableIPv6, networks, inUse) },
    Internal: options.Internal ?? false,
    Attachable: options.Attachable ?? false,
    Options: driver === "macvlan" ? macvlanOptions(options.Options ?? {}) : validOptions(options.Options ?? {}, options.Internal ?? false),
    Labels: options.Labels ?? {},
  });
}

/** A range of each family: what is given, or else a free one. */
function ranges(name: string, given: readonly IpamConfig[], ipv6: boolean, networks: readonly Subnet[], inUse: readonly Subnet[]): IpamConfig[] {
  const bare = given.filter(({ Subnet: subnet }) => subnet === undefined || subnet === "");
  if (bare.some(({ Gateway: gateway, IPRange: range }) => gateway || range)) throw new EngineError("invalid", "a gateway or range needs a subnet");
  const configs = given.filter((config) => !bare.includes(config));
  const of = (family: Family) => configs.filter((config) => subnetOf(config).family === family);
  const [four, six] = [of(4), of(6)];
  if (four.length > 1 || six.length > 1) throw new EngineError("invalid", "bridge driver doesn't support multiple subnets");
  const chosen = [
    four[0] ?? { Subnet: formatSubnet(choosePool(inUse, 24)) },
    // an IPv6 subnet on a network without IPv6 is left aside, as Docker does
    ...(ipv6 ? [six[0] ?? { Subnet: formatSubnet(chooseIPv6(inUse)) }] : []),
  ];
  return chosen.map((config) => {
    const pool = new AddressPool(config, name);
    if (networks.some((used) => overlap(used, pool.subnet)))
      throw new EngineError("denied", "invalid pool request: Pool overlaps with other one on this address space");
    return { ...config, Gateway: formatAddress(pool.gateway) };
  });
}

/** Docker's options of a macvlan network. */
export const MACVLAN_OPTION = { parent: "parent", mode: "macvlan_mode" } as const;

const isMacvlanMode = (mode: string): mode is MacvlanMode => Object.hasOwn(MACVLAN_MODES, mode);

function macvlanOptions(options: Record<string, string>): Record<string, string> {
  const mode = options[MACVLAN_OPTION.mode] ?? "bridge";
  if (!isMacvlanMode(mode)) throw new EngineError("invalid", `unknown macvlan mode: ${mode}`, { hint: `one of ${Object.keys(MACVLAN_MODES).join(", ")}` });
  const parent = options[MACVLAN_OPTION.parent] ?? "";
  if (!/^[^\s/:]{1,15}$/.test(parent))
    throw new EngineError("invalid", "a macvlan network needs an interface of the host", { hint: "name it: -o parent=eth0" });
  mtuOf(options);
  return options;
}

function mtuOf(options: Record<string, string>): number | undefined {
  const mtu = options[BRIDGE_OPTION.mtu];
  if (mtu !== undefined && !/^[0-9]{1,5}$/.test(mtu)) throw new EngineError("invalid", `invalid MTU "${mtu}"`);
  return mtu === undefined ? undefined : Number(mtu);
}

/** What a packet to or from outside meets. `routed`: no translation, published ports of the container itself are open; `isolated`: the host has no address there either. */
const GATEWAY_MODES = ["nat", "nat-unprotected", "routed", "isolated"] as const;
export type GatewayMode = (typeof GATEWAY_MODES)[number];
const isGatewayMode = (mode: string): mode is GatewayMode => (GATEWAY_MODES as readonly string[]).includes(mode);

function validOptions(options: Record<string, string>, internal: boolean): Record<string, string> {
  const name = options[BRIDGE_OPTION.name];
  if (name !== undefined && !/^[^\s/:]{1,15}$/.test(name))
    throw new EngineError("invalid", `invalid interface name "${name}": 1 to 15 characters without spaces, / and :`);
  mtuOf(options);
  for (const key of [BRIDGE_OPTION.icc, BRIDGE_OPTION.masquerade, BRIDGE_OPTION.inhibitIPv4, BRIDGE_OPTION.enableIPv4, BRIDGE_OPTION.enableIPv6]) {
    const value = options[key];
    if (value !== undefined && !/^(true|false|0|1)$/.test(value)) throw new EngineError("invalid", `invalid value "${value}" for ${key}: want true or false`);
  }
  for (const [key, family] of [
    [BRIDGE_OPTION.hostBinding, 4],
    [BRIDGE_OPTION.source4, 4],
    [BRIDGE_OPTION.source6, 6],
  ] as const) {
    const address = options[key] ?? "";
    if (address !== "" && parseAddress(address)?.family !== family)
      throw new EngineError("invalid", `invalid value "${address}" for ${key}: want an IPv${family} address`);
  }
  const stranger = trustedOf(options).find((interfaceName) => !/^[^\s/]{1,15}$/.test(interfaceName));
  if (stranger !== undefined)
    throw new EngineError("invalid", `invalid interface name "${stranger}" in ${BRIDGE_OPTION.trusted}`, { hint: "want interfaces of the host: eth0:wg0" });
  for (const key of [BRIDGE_OPTION.gatewayMode4, BRIDGE_OPTION.gatewayMode6]) {
    const mode = options[key] ?? "";
    if (mode !== "" && !isGatewayMode(mode)) throw new EngineError("invalid", `unknown gateway mode ${mode}`, { hint: `one of ${GATEWAY_MODES.join(", ")}` });
    if (mode === "isolated" && !internal)
      throw new EngineError("invalid", "the gateway mode isolated is for internal networks only", { hint: "add --internal" });
  }
  const prefix = options[BRIDGE_OPTION.interfacePrefix] ?? "";
  if (prefix !== "" && !/^[a-zA-Z][a-zA-Z0-9_.-]{0,11}$/.test(prefix))
    throw new EngineError("invalid", `invalid interface prefix "${prefix}": 1 to 12 letters and digits`);
  return options;
}

const trustedOf = (options: Record<string, string>): string[] => (options[BRIDGE_OPTION.trusted] || undefined)?.split(":") ?? [];

/** One family's half of a bridge network. */
export interface BridgeRange {
  readonly subnet: Subnet;
  readonly gateway: Address;
  readonly masquerade: boolean;
  /** The host's address that packets to outside are given then; undefined: that of the interface by which they go. */
  readonly source: Address | undefined;
  readonly mode: GatewayMode;
  /** The host has the gateway's address. */
  readonly onHost: boolean;
}

/** What the driver needs to know of a bridge network. */
export interface BridgeSettings {
  readonly networkName: string;
  readonly interfaceName: string;
  /** The interface is the host's own, and containers get parts of it. */
  readonly macvlan: MacvlanMode | undefined;
  readonly ipv4: BridgeRange;
  readonly ipv6: BridgeRange | undefined;
  readonly mtu: number;
  readonly icc: boolean;
  readonly internal: boolean;
  /** What names of interfaces in containers begin with. */
  readonly interfacePrefix: string;
  /** Interfaces of the host; who calls through them may call published ports by the containers' own addresses. */
  readonly trusted: readonly string[];
  /** Address that ports without one are published on; undefined = all, IPv6 too. */
  readonly hostBinding: string | undefined;
}

export function bridgeSettings({ Name, Id, Driver, Options, Internal, IPAM }: NetworkRecord): BridgeSettings {
  const mode = Options[MACVLAN_OPTION.mode] ?? "bridge";
  const flag = (key: string) => !/^(false|0)$/.test(Options[key] ?? "true");
  const range = (family: Family): BridgeRange | undefined => {
    for (const { Subnet: subnetText = "", Gateway: gatewayText = "" } of IPAM.Config) {
      const subnet = parseCidr(subnetText);
      const gateway = parseAddress(gatewayText);
      if (subnet === undefined || gateway === undefined) throw new EngineError("corrupt", `network ${Id} is stored without a subnet or gateway`);
      if (subnet.family !== family) continue;
      const asked = Options[family === 4 ? BRIDGE_OPTION.gatewayMode4 : BRIDGE_OPTION.gatewayMode6] ?? "";
      const gatewayMode = isGatewayMode(asked) ? asked : "nat";
      const inhibited = family === 4 && /^(true|1)$/.test(Options[BRIDGE_OPTION.inhibitIPv4] ?? "");
      const { network, prefix } = subnet;
      const source = parseAddress(Options[family === 4 ? BRIDGE_OPTION.source4 : BRIDGE_OPTION.source6] ?? "");
      return {
        subnet: { family, network, prefix },
        gateway,
        masquerade: gatewayMode !== "routed" && flag(BRIDGE_OPTION.masquerade),
        source: source?.value === 0n ? undefined : source,
        mode: gatewayMode,
        onHost: gatewayMode !== "isolated" && !inhibited,
      };
    }
    return undefined;
  };
  const ipv4 = range(4);
  if (ipv4 === undefined) throw new EngineError("corrupt", `network ${Id} is stored without an IPv4 subnet`);
  const binding = Options[BRIDGE_OPTION.hostBinding];
  return {
    networkName: Name,
    interfaceName: (Driver === "macvlan" ? Options[MACVLAN_OPTION.parent] : Options[BRIDGE_OPTION.name]) ?? `br-${Id.slice(0, 12)}`,
    macvlan: Driver === "macvlan" && isMacvlanMode(mode) ? mode : undefined,
    ipv4,
    ipv6: range(6),
    mtu: Number(Options[BRIDGE_OPTION.mtu] ?? 1500),
    icc: flag(BRIDGE_OPTION.icc),
    internal: Internal,
    interfacePrefix: Options[BRIDGE_OPTION.interfacePrefix] || "eth",
    trusted: trustedOf(Options),
    hostBinding: binding === undefined || binding === "" || binding === "0.0.0.0" ? undefined : binding,
  };
}
