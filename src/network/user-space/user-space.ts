/**
 * The network of a container by a program in user space, pasta or slirp4netns, instead of a bridge: it holds the other end of the container's one interface and opens
 * its connections as a process of the host's. Nothing is asked of the host's namespace, neither interfaces, addresses nor rules, so an engine without rights over it can
 * do it, too. The program is started with the container, by its monitor, and ends with that: it needs no engine.
 * @module
 * @see docs/adr/0073-a-network-in-user-space.md, docs/adr/0089-pasta-and-ports-in-user-space.md
 */
import { access } from "node:fs/promises";
import type { PortBinding } from "#core/container-config.ts";
import { systemClock } from "#core/clock.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import { newId } from "#core/ids.ts";
import { findProgram } from "#linux/find-program.ts";
import { unlinkIfThere } from "#linux/unlink-if-there.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";
import { parseAddress } from "../ip-address.ts";
import type { EndpointRecord, JoinRequest, JoinResult } from "../mod.ts";
import { noAddresses } from "../network-records.ts";
import { releaseAll } from "../ports/host-ports.ts";
import { publishPorts } from "../published-ports.ts";
import { type Forward, type Place, USER_SPACE_RESOLVER, type UserSpaceProgram } from "./program.ts";
import { pasta } from "./pasta.ts";
import { slirp } from "./slirp.ts";

/** By the names of the network modes, which are podman's. */
const PROGRAMS: ReadonlyMap<string, UserSpaceProgram> = new Map([pasta, slirp].map((program) => [program.name, program]));

/** Whether the network of this name is one in user space. */
export const isUserSpace = (name: string): boolean => PROGRAMS.has(name);

/** The mode among these networks, if it is one of them: it is the only one then. */
export const userSpaceAmong = (names: readonly string[]): string | undefined => names.find(isUserSpace);

const PLACE: Place = {
  address: "10.0.2.100",
  gateway: "10.0.2.2",
  prefix: 24,
  resolver: USER_SPACE_RESOLVER,
  interfaceName: "eth0",
  mac: "02:42:0a:00:02:64",
  mtu: 65_520,
};
const TUN = "/dev/net/tun";
const AGAIN_MS = 10;

function programOf(name: string): UserSpaceProgram {
  const program = PROGRAMS.get(name);
  if (program === undefined) throw new EngineError("internal", `${name} is no network in user space`);
  return program;
}

/** EngineError "unsupported" where the program or its device is missing, or for what it cannot do. Resolves to the program's path. */
export async function requireUserSpace({
  networkName,
  ports,
  publishHost = "",
  endpoint,
}: Pick<JoinRequest, "networkName" | "ports" | "publishHost" | "endpoint">): Promise<string> {
  const { name, package: debianPackage } = programOf(networkName);
  const refuse = (what: string): never => {
    throw new EngineError("unsupported", `${what} cannot be had with the network mode ${name}`, { hint: "use a bridge network" });
  };
  for (const [port, bindings] of Object.entries(ports)) {
    if (port.endsWith("/sctp") && bindings.length > 0) refuse("a published SCTP port");
    const hosts = bindings.map(({ HostIp }) => HostIp || publishHost);
    if (hosts.some((host) => host.includes(":"))) refuse("a port published on an IPv6 address");
    // slirp4netns takes answers for calls of the host's loopback, which is closed; pasta's (2023) do not come back either
    if (port.endsWith("/udp") && hosts.some((host) => host.startsWith("127."))) refuse("a UDP port published on a loopback address");
  }
  const { IPAMConfig, MacAddress = "" } = endpoint ?? { IPAMConfig: null };
  if (Object.values(IPAMConfig ?? {}).some((value) => value.length > 0) || MacAddress !== "") refuse("an address of your choice");
  const program = await findProgram(name);
  if (program === undefined) throw new EngineError("unsupported", `the program ${name} is not installed`, { hint: `install the package ${debianPackage}` });
  await access(TUN).catch((error: unknown) => {
    throw new EngineError("unsupported", `${name} needs ${TUN}: ${(error as Error).message}`, { hint: "modprobe tun" });
  });
  return program;
}

/** What a container has joined, and what is still to be done when it runs. */
export interface UserSpaceJoin extends JoinResult {
  readonly onceItRuns: (() => Promise<void>) | undefined;
}

/** Takes no port itself: the program binds them; that they are free is looked at here. `patientUntil`: so long a port may be that of a program which is just ending. */
export async function joinUserSpace(request: JoinRequest, patientUntil: number): Promise<UserSpaceJoin> {
  const path = await requireUserSpace(request);
  const program = programOf(request.networkName);
  const { forwards, bindings } = await chooseForwards(request, patientUntil);
  const socket = request.programSocket;
  await unlinkIfThere(socket);
  const start: Step = {
    op: "beside",
    where: "host",
    argv: [path, ...(await program.options(PLACE, forwards, socket))],
    ready: program.ready,
    why: `${PLACE.interfaceName} inside the container, ${PLACE.address}/${PLACE.prefix}, whose other end is a program`,
    see: `${program.name}(1)`,
    section: "network",
  };
  const withoutIPv6: Step = {
    op: "write",
    where: "child",
    dir: NO_SLOT,
    path: "/proc/sys/net/ipv6/conf/all/disable_ipv6",
    flags: 0n,
    data: new TextEncoder().encode("1"),
    why: "the program passes IPv4 on",
    see: "kernel: ip-sysctl",
    ignore: ["ENOENT"],
    section: "network",
  };
  const endpoint: EndpointRecord = {
    ...noAddresses,
    NetworkName: program.name,
    NetworkID: "",
    EndpointID: newId(),
    Gateway: PLACE.gateway,
    IPAddress: PLACE.address,
    IPPrefixLen: PLACE.prefix,
    MacAddress: PLACE.mac,
    Aliases: request.endpoint?.Aliases ?? null,
    DNSNames: [],
    Interface: PLACE.interfaceName,
  };
  const publish = forwards.length === 0 ? undefined : program.publish;
  const onceItRuns = publish === undefined ? undefined : () => publish(PLACE, forwards, socket);
  return { endpoint, ports: bindings, steps: [start, withoutIPv6], onceItRuns };
}

/** Ports that are free now, bound and given back. EngineError "kernel" for one that is not. */
async function chooseForwards(
  { ports, publishHost = "0.0.0.0" }: JoinRequest,
  patientUntil: number,
): Promise<{
  readonly forwards: readonly Forward[];
  readonly bindings: Record<string, PortBinding[] | null>;
}> {
  const ipv4 = parseAddress(PLACE.address);
  if (ipv4 === undefined) throw new EngineError("internal", `${PLACE.address} is no address`);
  const take = async (): ReturnType<typeof publishPorts> => {
    try {
      return await publishPorts(ports, { ipv4, ipv6: undefined }, publishHost);
    } catch (error) {
      if (!isEngineError(error, "kernel") || systemClock.now() >= patientUntil) throw error;
      await systemClock.sleep(AGAIN_MS);
      return await take();
    }
  };
  const { held, published, bindings } = await take();
  await releaseAll(held);
  const forwards = published.map(({ protocol, hostPort, port }, i) => ({ protocol, hostIp: held[i]?.hostIp ?? publishHost, hostPort, port }));
  return { forwards, bindings };
}
