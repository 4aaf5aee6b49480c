/**
 * The network of a container by a program in user space, slirp4netns, instead of a bridge: it holds the other end of the container's one interface and opens its
 * connections as a process of the host's. Nothing is asked of the host's namespace, neither interfaces, addresses nor rules, so an engine without rights over it can do it, too.
 * @module
 * @see docs/adr/0073-a-network-in-user-space.md, slirp4netns(1)
 */
import { access } from "node:fs/promises";
import { EngineError } from "#core/errors.ts";
import { newId } from "#core/ids.ts";
import { findProgram } from "#linux/find-program.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";
import type { EndpointRecord, JoinRequest, JoinResult } from "../mod.ts";
import { noAddresses } from "../network-records.ts";

/** The network mode, by podman's name for it. */
export const SLIRP = "slirp4netns";
/** Where its container finds names: the program asks the host's resolvers, also those at loopback addresses. */
export const SLIRP_RESOLVER = "10.0.2.3";
/** The program's own choices, fixed in its manual. */
const [ADDRESS, GATEWAY, PREFIX, INTERFACE] = ["10.0.2.100", "10.0.2.2", 24, "eth0"] as const;
/** What a packet may be long where none leaves the machine as it is: fewer and larger ones are what user space is good at. */
const MTU = 65_520;
const TUN = "/dev/net/tun";
/** DNS is for its own resolver to ask; the host's loopback, where services listen that trust whoever reaches them, is closed. */
const OPTIONS = ["--configure", `--mtu=${MTU}`, "--disable-host-loopback", "--ready-fd=3", "--exit-fd=4", "--netns-type=path"];

/** EngineError "unsupported" where the program or its device is missing, or for what it cannot do. Resolves to the program's path. */
export async function requireSlirp({ ports, endpoint }: Pick<JoinRequest, "ports" | "endpoint">): Promise<string> {
  const refuse = (what: string): never => {
    throw new EngineError("unsupported", `${what} cannot be had with the network mode ${SLIRP}`, { hint: "use a bridge network" });
  };
  if (Object.values(ports).some((bindings) => bindings.length > 0)) refuse("published ports");
  const { IPAMConfig, MacAddress = "" } = endpoint ?? { IPAMConfig: null };
  if (Object.values(IPAMConfig ?? {}).some((value) => value.length > 0) || MacAddress !== "") refuse("an address of your choice");
  const program = await findProgram(SLIRP);
  if (program === undefined) throw new EngineError("unsupported", `the program ${SLIRP} is not installed`, { hint: `install the package ${SLIRP}` });
  await access(TUN).catch((error: unknown) => {
    throw new EngineError("unsupported", `${SLIRP} needs ${TUN}: ${(error as Error).message}`, { hint: "modprobe tun" });
  });
  return program;
}

/** The program is started with the container, by its monitor, and ends with that: it needs no engine. */
export async function joinSlirp(request: JoinRequest): Promise<JoinResult> {
  const program = await requireSlirp(request);
  const start: Step = {
    op: "beside",
    where: "host",
    argv: [program, ...OPTIONS, "/proc/{}/ns/net", INTERFACE],
    why: `${INTERFACE} inside the container, ${ADDRESS}/${PREFIX}, whose other end is a program`,
    see: "slirp4netns(1)",
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
    NetworkName: SLIRP,
    NetworkID: "",
    EndpointID: newId(),
    Gateway: GATEWAY,
    IPAddress: ADDRESS,
    IPPrefixLen: PREFIX,
    Aliases: request.endpoint?.Aliases ?? null,
    DNSNames: [],
    Interface: INTERFACE,
  };
  return { endpoint, ports: {}, steps: [start, withoutIPv6] };
}
