/**
 * Networks: what a container's network namespace holds. A driver's `join` returns an endpoint and plan steps (netlink messages as data).
 * @module
 */
import type { EndpointConfig, PortBinding } from "#core/container-config.ts";
import type { MonitorLink } from "#linux/helper.ts";
import type { Step } from "#linux/plan.ts";
import type { NameClient, NameTrace } from "./names/name-server.ts";
import type { EgressRules } from "./egress/egress-rules.ts";
import type { Shaping } from "./shaping.ts";

/** Docker's network resource (`/networks`). */
export interface NetworkRecord {
  Name: string;
  Id: string;
  Created: string;
  Scope: "local";
  Driver: string;
  /** Always, as yet. */
  EnableIPv4?: boolean;
  EnableIPv6: boolean;
  IPAM: {
    Driver: string;
    Options: Record<string, string> | null;
    Config: { Subnet?: string; Gateway?: string; IPRange?: string; AuxiliaryAddresses?: Record<string, string> }[];
  };
  Internal: boolean;
  Attachable: boolean;
  Ingress: boolean;
  Options: Record<string, string>;
  Labels: Record<string, string>;
}

/** One container on one network; Docker's EndpointSettings plus what teardown needs. Stored with the container. */
export interface EndpointRecord {
  NetworkName: string;
  NetworkID: string;
  EndpointID: string;
  Gateway: string;
  IPAddress: string;
  IPPrefixLen: number;
  IPv6Gateway: string;
  GlobalIPv6Address: string;
  GlobalIPv6PrefixLen: number;
  MacAddress: string;
  Aliases: string[] | null;
  DNSNames: string[];
  /** Host side interface name. */
  HostInterface?: string;
  /** Its name inside the container (`eth0`). */
  Interface?: string;
  /** Its number among the container's, where the name does not say it. */
  InterfaceNumber?: number;
  /** The container was given its name server together with this endpoint. */
  NameServer?: true;
}

/** A running container's first process. `startTime` guards against a reused pid. */
export interface RunningProcess {
  readonly pid: number;
  readonly startTime: bigint;
}

export interface JoinRequest {
  readonly containerId: string;
  readonly containerName: string;
  readonly hostname: string;
  readonly networkName: string;
  readonly endpoint: EndpointConfig | undefined;
  /** `80/tcp` → bindings; published by the driver. Empty HostPort = ephemeral. */
  readonly ports: Readonly<Record<string, readonly PortBinding[]>>;
  /** The host's address of ports that name none, where the network has no choice of its own; default: all of them. */
  readonly publishHost?: string;
  /** All networks that the container joins together with this one: its default route goes through the best of them. */
  readonly together?: Readonly<Record<string, EndpointConfig>>;
  /** Limits of its bandwidth, on this network as on each of its others. */
  readonly shaping?: Shaping;
  /** Whom it may call; undefined: whomever its networks reach. */
  readonly egress?: EgressRules;
  /** Name servers that it was given. */
  readonly dns?: readonly string[] | null;
  /** A path for a socket, by which a program that is its network is told what to do. */
  readonly programSocket: string;
}

/** A call, or a question for a name, that a container's egress rules did not allow. */
export type Refused = { readonly address: string; readonly protocol: string; readonly port: number | undefined } | { readonly host: string };

export interface JoinResult {
  readonly endpoint: EndpointRecord;
  /** The bindings as they became (real host ports). */
  readonly ports: Record<string, PortBinding[] | null>;
  /**
   * Steps that wire the container's network namespace. They come after `clone` (which made the namespace): host steps may use
   * `child_ns` "net" into a slot ≥ `slot`; child steps run in the namespace, still with all capabilities, when the host steps are done (the planner's hand-shake).
   */
  readonly steps: readonly Step[];
}

export interface NetworkManager {
  list(): NetworkRecord[];
  /** By name or id (prefix). EngineError not-found `network X not found`. */
  get(nameOrId: string): NetworkRecord;
  create(options: Partial<NetworkRecord> & { readonly Name: string }): Promise<{ readonly id: string; readonly warning: string }>;
  remove(nameOrId: string): Promise<void>;
  /** Reserves addresses and ports (bind is the allocation), makes bridge and rules, returns steps. `slot`: first of 4 free slots. */
  join(request: JoinRequest, slot: number): Promise<JoinResult>;
  /** A container that has joined runs: what could not be done before is done when this resolves. EngineError "kernel" when it cannot be. */
  launched(containerId: string): Promise<void>;
  /** The same for a container that runs: it is wired when this resolves. */
  plug(request: JoinRequest, target: RunningProcess): Promise<JoinResult>;
  /** Takes a running container off one network. The published ports, when they led through it and now lead through another. */
  unplug(containerId: string, networkId: string, target: RunningProcess): Promise<{ readonly ports?: Record<string, PortBinding[] | null> }>;
  /** Through which of these networks the default route (and what is published) goes; undefined: through none. */
  gatewayOf(endpoints: Readonly<Record<string, EndpointConfig>>): string | undefined;
  /** EngineError "unsupported" when this kernel cannot do what is asked for. */
  checkShaping(shaping: Shaping): Promise<void>;
  /** EngineError "unsupported" when this kernel cannot confine containers. */
  checkEgress(): Promise<void>;
  /** Changes the limits of a running container's bandwidth, on all of its bridge networks. */
  shape(containerId: string, target: RunningProcess, shaping: Shaping): Promise<void>;
  /**
   * Confines a running container to other egress rules, on all of its networks at once, or for the first time. Connections that are open stay so. Resolves to the
   * endpoint that it got a name server with, if only now: `serveNames` is next.
   */
  confine(
    containerId: string,
    target: RunningProcess,
    rules: { readonly egress: EgressRules; readonly dns: readonly string[] | null },
  ): Promise<EndpointRecord | undefined>;
  /** Frees addresses, ports and rules of a container; idempotent. */
  leave(containerId: string): Promise<void>;
  /** resolv.conf content for a container (host's resolvers, or options given). */
  resolvConf(options: {
    readonly dns: readonly string[] | null;
    readonly search: readonly string[] | null;
    readonly options: readonly string[] | null;
    readonly networkMode: string;
    /** The container, when it is on its networks already. */
    readonly containerId?: string;
  }): Promise<string>;
  /** Answers the container's questions for names as long as it runs, where that is ours to do. `dns`: whom else it wants to be asked. */
  serveNames(containerId: string, link: Pick<MonitorLink, "names">, dns: readonly string[] | null): Promise<void>;
  /** How a name would be answered to a container, or (no `containerId`) to all networks. */
  traceName(name: string, type: "A" | "AAAA", client: NameClient | undefined): Promise<NameTrace>;
  /** The container has another name; its endpoints as they are now, by network. */
  rename(containerId: string, name: string): Record<string, EndpointRecord>;
  /**
   * After a restart: takes the endpoints of running containers back, removes interfaces, rules and ports of others. Resolves to endpoints that are no more: their cable
   * is gone, because an engine was killed while it disconnected them, or by somebody else's hand.
   */
  restore(
    running: readonly {
      readonly containerId: string;
      readonly containerName?: string;
      readonly endpoints: readonly EndpointRecord[];
      readonly ports: Readonly<Record<string, readonly PortBinding[] | null>>;
      readonly egress?: EgressRules;
      /** What was asked of its endpoints, by network name. */
      readonly asked?: Readonly<Record<string, EndpointConfig>>;
    }[],
  ): Promise<readonly { readonly containerId: string; readonly networkId: string }[]>;
  /** Which containers are on a network. */
  members(networkId: string): { readonly containerId: string; readonly name: string; readonly endpoint: EndpointRecord }[];
  close(): Promise<void>;
}

export type { NameTrace } from "./names/name-server.ts";
export { parseShaping, type Shaping, type ShapingText, shapingOfLabels } from "./shaping.ts";
export { EGRESS_LABEL, type EgressRules, egressList, parseEgress } from "./egress/egress-rules.ts";
export { endpointExtras } from "./endpoint-extras.ts";
export { isUserSpace, requireUserSpace, userSpaceAmong } from "./user-space/user-space.ts";
export { noAddresses } from "./network-records.ts";
export { type NetworksOptions, openNetworks } from "./network-manager.ts";
