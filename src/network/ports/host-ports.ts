/**
 * Ports of the host: binding the socket is the allocation. A held socket makes every clash show, whoever the other one is, and frees itself with the daemon.
 * @module
 */
import { createSocket } from "node:dgram";
import { isIPv6, Server, type Socket } from "node:net";
import type { PortBinding } from "#core/container-config.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import { type RelayTarget, relayTcp, relayUdp } from "./relay.ts";

export type Protocol = "tcp" | "udp" | "sctp";

/** A port that is taken; `port` is the real one. */
export interface HeldPort {
  readonly protocol: Protocol;
  readonly hostIp: string;
  readonly port: number;
  release(): Promise<void>;
}

/** A request for one container port: on which addresses, and which port (first that is free of a range; 0 = any). */
export interface PortRequest {
  readonly protocol: Protocol;
  readonly hostIps: readonly string[];
  /** IPv6 addresses that may be left out where the host has no IPv6. */
  readonly optionalIps: ReadonlySet<string>;
  readonly first: number;
  readonly last: number;
  readonly target: RelayTarget;
}

/** Ports of protocols that Node has no sockets for. */
const sctpHeld = new Set<string>();

/** `both`: one socket for all addresses of both families; `hostIp` is `::` then. */
async function hold(protocol: Protocol, hostIp: string, port: number, target: RelayTarget, both = false): Promise<HeldPort> {
  if (protocol === "tcp") return await new TcpPort(hostIp, target).hold(port, both);
  if (protocol === "udp") return await holdUdp(hostIp, port, target, both);
  const actual = port === 0 ? freeSctpPort(hostIp) : port;
  const key = `${hostIp} ${actual}`;
  if (sctpHeld.has(key)) throw Object.assign(new Error("port is held"), { code: "EADDRINUSE" });
  sctpHeld.add(key);
  return {
    protocol,
    hostIp,
    port: actual,
    release: async () => {
      sctpHeld.delete(key);
    },
  };
}

function freeSctpPort(hostIp: string): number {
  for (let port = 49_152; port <= 65_535; port++) if (!sctpHeld.has(`${hostIp} ${port}`)) return port;
  throw Object.assign(new Error("no free port"), { code: "EADDRINUSE" });
}

const nothing = () => undefined;

/** One of maybe ten thousand: it has what it needs, and its handlers are shared. */
class TcpPort extends Server implements HeldPort {
  readonly protocol = "tcp";
  readonly hostIp: string;
  port = 0;
  readonly #target: RelayTarget;
  /** Those that are relayed just now. */
  #clients: Set<Socket> | undefined;

  constructor(hostIp: string, target: RelayTarget) {
    super({ allowHalfOpen: true });
    this.hostIp = hostIp;
    this.#target = target;
    this.on("connection", this.relay);
  }

  relay(client: Socket): void {
    const clients = (this.#clients ??= new Set());
    clients.add(client);
    client.on("close", () => clients.delete(client));
    relayTcp(client, this.#target);
  }

  hold(port: number, both: boolean): Promise<HeldPort> {
    return new Promise((resolve, reject) => {
      this.once("error", reject);
      this.listen({ host: this.hostIp, port, ipv6Only: isIPv6(this.hostIp) && !both, exclusive: true }, () => {
        this.off("error", reject);
        this.on("error", nothing); // accept(2) out of descriptors: the client is refused, the port stays held
        const address = this.address();
        this.port = address !== null && typeof address === "object" ? address.port : port;
        resolve(this);
      });
    });
  }

  release(): Promise<void> {
    return new Promise((done) => {
      this.close(() => done());
      for (const client of this.#clients ?? []) client.destroy();
    });
  }
}

function holdUdp(hostIp: string, port: number, target: RelayTarget, both: boolean): Promise<HeldPort> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIPv6(hostIp) ? { type: "udp6", ipv6Only: !both } : { type: "udp4" });
    socket.once("error", reject);
    socket.bind({ address: hostIp, port, exclusive: true }, () => {
      socket.off("error", reject);
      socket.on("error", () => undefined); // an ICMP answer to a client that is gone
      const stop = relayUdp(socket, target);
      resolve({
        protocol: "udp",
        hostIp,
        port: socket.address().port,
        release: () =>
          new Promise((done) => {
            stop();
            socket.close(() => done());
          }),
      });
    });
  });
}

const noIpv6 = new Set(["EAFNOSUPPORT", "EADDRNOTAVAIL", "EPROTONOSUPPORT"]);

const ALL = ["0.0.0.0", "::"];

/** The IPv4 half of a socket for both families: it goes with the other. */
class OtherFamily implements HeldPort {
  readonly hostIp = "0.0.0.0";
  readonly #held: HeldPort;

  constructor(held: HeldPort) {
    this.#held = held;
  }

  get protocol(): Protocol {
    return this.#held.protocol;
  }

  get port(): number {
    return this.#held.port;
  }

  async release(): Promise<void> {}
}

/** All addresses of both families by one socket: half the descriptors and memory of ten thousand ports. undefined: there is no IPv6. */
async function holdBoth({ protocol, target }: PortRequest, port: number): Promise<HeldPort[] | undefined> {
  try {
    const one = await hold(protocol, "::", port, target, true);
    return [new OtherFamily(one), one];
  } catch (error) {
    if (noIpv6.has(errnoOf(error) ?? "")) return undefined;
    throw Object.assign(error as Error, { hostIp: "0.0.0.0", hostPort: port });
  }
}

/** One port number on all addresses, or nothing. */
async function holdAll(request: PortRequest, port: number): Promise<HeldPort[]> {
  const everywhere = request.protocol !== "sctp" && request.optionalIps.has("::") && request.hostIps.join() === ALL.join();
  const both = everywhere ? await holdBoth(request, port) : undefined;
  if (both !== undefined) return both;
  const held: HeldPort[] = [];
  let number = port;
  try {
    for (const hostIp of request.hostIps) {
      try {
        const one = await hold(request.protocol, hostIp, number, request.target);
        number = one.port;
        held.push(one);
      } catch (error) {
        if (!(request.optionalIps.has(hostIp) && noIpv6.has(errnoOf(error) ?? ""))) throw Object.assign(error as Error, { hostIp, hostPort: number });
      }
    }
    return held;
  } catch (error) {
    await releaseAll(held);
    throw error;
  }
}

/** An ephemeral port may be free on one address and taken on the next. */
const EPHEMERAL_ATTEMPTS = 20;

/** Takes a port. EngineError "kernel" with Docker's text when it is taken. */
export async function takePort(request: PortRequest): Promise<HeldPort[]> {
  const candidates =
    request.first === 0 ? new Array<number>(EPHEMERAL_ATTEMPTS).fill(0) : Array.from({ length: request.last - request.first + 1 }, (_, i) => request.first + i);
  let last: unknown;
  for (const port of candidates) {
    try {
      return await holdAll(request, port);
    } catch (error) {
      last = error;
      if (errnoOf(error) !== "EADDRINUSE") break;
    }
  }
  throw bindError(last, request);
}

function bindError(cause: unknown, { hostIps, first, last, protocol }: PortRequest): EngineError {
  const { hostIp = hostIps[0] ?? "", hostPort = first } = cause as { hostIp?: string; hostPort?: number };
  const errno = errnoOf(cause) ?? "EIO";
  const shown = isIPv6(hostIp) ? `[${hostIp}]` : hostIp;
  const details = { errno, hostIp, hostPort };
  if (errno === "EADDRINUSE" && last > first)
    return new EngineError("kernel", `Bind for ${shown}:${first}-${last} failed: all ports are allocated`, { cause, details });
  if (errno === "EADDRINUSE")
    return new EngineError("kernel", `Bind for ${shown}:${hostPort} failed: port is already allocated`, {
      cause,
      details,
      hint: `ss -lnp '( sport = :${hostPort} )' shows who holds it`,
    });
  const reason = errno === "EADDRNOTAVAIL" ? "cannot assign requested address" : errno === "EACCES" ? "permission denied" : errno;
  return new EngineError("kernel", `failed to bind host port for ${shown}:${hostPort}/${protocol}: ${reason}`, { cause, details });
}

export async function releaseAll(held: readonly HeldPort[]): Promise<void> {
  await Promise.all(held.map((port) => port.release()));
}

/** `80/tcp` → number and protocol. EngineError "invalid". */
export function parseContainerPort(key: string): { readonly port: number; readonly protocol: Protocol } {
  const [, number, protocol = "tcp"] = /^(\d{1,5})(?:\/(tcp|udp|sctp))?$/.exec(key) ?? [];
  const port = Number(number);
  if (number === undefined || port < 1 || port > 65_535) throw new EngineError("invalid", `invalid container port "${key}"`);
  return { port, protocol: protocol as Protocol }; // the pattern says so
}

/** "", "8080" or "8000-8010". EngineError "invalid". */
export function parseHostPort({ HostPort }: PortBinding): { readonly first: number; readonly last: number } {
  if (HostPort === "" || HostPort === "0") return { first: 0, last: 0 };
  const [, from, to = from] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(HostPort) ?? [];
  const [first, last] = [Number(from), Number(to)];
  if (from === undefined || first < 1 || last > 65_535 || last < first) throw new EngineError("invalid", `invalid host port "${HostPort}"`);
  return { first, last };
}
