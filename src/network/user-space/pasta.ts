/**
 * pasta, of the package passt: it copies less than slirp4netns, and connections to published ports from the host itself are spliced.
 * @module
 * @see passt(1)
 */
import { readFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { EngineError } from "#core/errors.ts";
import type { Forward, Place, UserSpaceProgram } from "./program.ts";

/** It asks for the interface that it takes the host's side of things from: by itself that of the default route. Without one, any that has an address. */
async function template(): Promise<readonly string[]> {
  const routes = await readFile("/proc/net/route", "utf8");
  const hasDefault = routes.split("\n").some((line) => /^\S+\s+00000000\s+\S+\s+\S+\s+\S+\s+\S+\s+\S+\s+00000000\s/.test(line));
  if (hasDefault) return [];
  const found = Object.entries(networkInterfaces()).find(([, addresses]) => addresses?.some(({ family, internal }) => family === "IPv4" && !internal));
  if (found === undefined) throw new EngineError("unsupported", "pasta needs an interface of the host with an IPv4 address, and there is none");
  return ["--interface", found[0]];
}

const specs = (option: string, forwards: readonly Forward[]): string[] =>
  forwards.length === 0 ? [option, "none"] : forwards.flatMap(({ hostIp, hostPort, port }) => [option, `${hostIp}/${hostPort}:${port}`]);

export const pasta: UserSpaceProgram = {
  name: "pasta",
  package: "passt",
  // Its descriptors above 2 may be closed (since 2024); in the foreground it writes its "PID file" when all is set up.
  ready: 1,
  options: async ({ address, gateway, resolver, interfaceName, mac, mtu }: Place, forwards: readonly Forward[]) => [
    ...["--foreground", "--quiet", "--pid", "/dev/stdout"],
    // as `nobody`, its choice for root, it may not open the namespace
    ...["--runas", "0", "--netns-only", "--netns", "/proc/self/fd/0"],
    ...["--config-net", "--ipv4-only", "--ns-ifname", interfaceName, "--ns-mac-addr", mac, "--mtu", String(mtu), ...(await template())],
    ...["--address", address, "--netmask", "255.255.255.0", "--gateway", gateway, "--dns-forward", resolver],
    // the gateway's address is not the host's loopback, where services listen that trust whoever reaches them
    ...["--no-map-gw", "--no-dhcp"],
    ...specs(
      "--tcp-ports",
      forwards.filter(({ protocol }) => protocol === "tcp"),
    ),
    ...specs(
      "--udp-ports",
      forwards.filter(({ protocol }) => protocol === "udp"),
    ),
    ...["--tcp-ns", "none", "--udp-ns", "none"],
  ],
  publish: undefined,
};
