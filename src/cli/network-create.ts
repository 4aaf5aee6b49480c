/** `wherry network create`. @module */
import { BlockList, isIP } from "node:net";
import type { IpamPool } from "#api/types/requests.ts";
import { type Command, command } from "./command.ts";
import { ExitError } from "./errors.ts";
import { type FlagValues, many, one, onOff } from "./flags.ts";
import { label, toMap } from "./options/validate.ts";
import { print, warn } from "./output.ts";

export const networkCreateCommand: Command = command({
  usage: "[OPTIONS] NETWORK",
  about: "Create a network",
  examples: [["network create --subnet 10.9.0.0/24 mine", "with addresses of your choice"]],
  flags: [
    onOff("attachable", "Containers may attach by hand"),
    many("aux-address", "Addresses that are taken already (name=address)", { metavar: "map" }),
    one("driver,d", "Driver", { initial: "bridge" }),
    many("gateway", "Gateway of the subnet", { metavar: "strings" }),
    onOff("internal", "No way out"),
    many("ip-range", "Addresses to give to containers", { metavar: "strings" }),
    one("ipam-driver", "Driver for addresses", { initial: "default" }),
    many("ipam-opt", "Options of that driver", { metavar: "map" }),
    onOff("ipv4", "IPv4 addresses", true),
    onOff("ipv6", "IPv6 addresses"),
    many("label", "Set a label", { parse: label }),
    many("opt,o", "Options of the driver", { metavar: "map" }),
    one("scope", "Scope of the network"),
    many("subnet", "Subnet as CIDR", { metavar: "strings" }),
  ],
  arity: [1, 1],
  run: async ({ args, client, flags, io }) => {
    const reply = await client.json<{ Id: string; Warning: string }>("POST", "/networks/create", {
      body: {
        Name: args[0]!,
        Driver: flags.text("driver"),
        Scope: flags.text("scope"),
        ...(flags.changed("ipv4") ? { EnableIPv4: flags.on("ipv4") } : {}),
        ...(flags.changed("ipv6") ? { EnableIPv6: flags.on("ipv6") } : {}),
        IPAM: { Driver: flags.text("ipam-driver"), Options: toMap(flags.list("ipam-opt")), Config: pools(flags) },
        Internal: flags.on("internal"),
        Attachable: flags.on("attachable"),
        Options: toMap(flags.list("opt")),
        Labels: toMap(flags.list("label")),
      },
      signal: io.gone,
    });
    if (reply.Warning) warn(io, `WARNING: ${reply.Warning}`);
    await print(io, reply.Id);
    return 0;
  },
});

function contains(subnet: string, address: string): boolean {
  const [network = "", bits = ""] = subnet.split("/");
  const family = isIP(network);
  if (family === 0 || !/^\d{1,3}$/.test(bits) || Number(bits) > (family === 4 ? 32 : 128))
    throw new ExitError(1, `invalid subnet ${subnet}: it should be in CIDR format`);
  const ip = address.split("/")[0]!;
  if (isIP(ip) !== family) return false;
  const list = new BlockList();
  const kind = family === 4 ? "ipv4" : "ipv6";
  list.addSubnet(network, Number(bits), kind);
  return list.check(ip, kind);
}

/** One pool for each subnet; ranges, gateways and taken addresses go to the subnet that holds them. */
function pools(flags: FlagValues): IpamPool[] {
  const subnets = flags.list("subnet").flatMap((text) => text.split(","));
  const ranges = flags.list("ip-range").flatMap((text) => text.split(","));
  const gateways = flags.list("gateway").flatMap((text) => text.split(","));
  if (subnets.length < ranges.length || subnets.length < gateways.length) throw new ExitError(1, "every ip-range or gateway must have a corresponding subnet");
  const result = new Map<string, IpamPool>();
  for (const subnet of subnets) {
    for (const other of result.keys()) {
      if (contains(subnet, other) || contains(other, subnet)) throw new ExitError(1, "multiple overlapping subnet configuration is not supported");
    }
    result.set(subnet, { Subnet: subnet });
  }
  const put = (what: string, address: string, field: (pool: IpamPool) => void) => {
    for (const [subnet, pool] of result) if (contains(subnet, address)) return field(pool);
    throw new ExitError(1, `no matching subnet for ${what} ${address}`);
  };
  for (const range of ranges) put("range", range, (pool) => void (pool.IPRange = range));
  for (const gateway of gateways) put("gateway", gateway, (pool) => void (pool.Gateway = gateway));
  for (const [name, address] of Object.entries(toMap(flags.list("aux-address")))) {
    put("aux-address", address, (pool) => void (pool.AuxiliaryAddresses = { ...pool.AuxiliaryAddresses, [name]: address }));
  }
  return [...result.values()];
}
