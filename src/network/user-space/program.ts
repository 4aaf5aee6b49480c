/**
 * What the engine knows of a program that is a container's network in user space.
 * @module
 */

/** Where the container finds names: the program asks the host's resolvers, also those at loopback addresses. */
export const USER_SPACE_RESOLVER = "10.0.2.3";

/** The container's interface. */
export interface Place {
  readonly address: string;
  readonly gateway: string;
  readonly prefix: number;
  readonly resolver: string;
  readonly interfaceName: string;
  /** Of the interface: a program that has to learn it from what the container sends cannot bring anything in before. */
  readonly mac: string;
  /** What a packet may be long where none leaves the machine as it is: fewer and larger ones are what user space is good at. */
  readonly mtu: number;
}

/** A port of the host that leads to one of the container. */
export interface Forward {
  readonly protocol: "tcp" | "udp" | "sctp";
  readonly hostIp: string;
  readonly hostPort: number;
  readonly port: number;
}

export interface UserSpaceProgram {
  /** Of the program, and of the network mode. */
  readonly name: string;
  /** Debian's. */
  readonly package: string;
  /** The descriptor that it writes to when the interface is there. */
  readonly ready: 1 | 3;
  /** Its arguments. The container's network namespace is its descriptor 0. `socket`: a path where it may listen. */
  options(place: Place, forwards: readonly Forward[], socket: string): readonly string[] | Promise<readonly string[]>;
  /** Publishes ports when it runs, if it cannot be told before. EngineError "kernel". */
  readonly publish: ((place: Place, forwards: readonly Forward[], socket: string) => Promise<void>) | undefined;
}
