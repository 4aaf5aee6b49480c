/** `wherry network rm`, `connect`, `disconnect`. @module */
import { any, type Command, command } from "./command.ts";
import { errorText, ExitError, isStatus } from "./errors.ts";
import { int, many, one, onOff } from "./flags.ts";
import { endpoint } from "./options/network.ts";
import { link, toMap } from "./options/validate.ts";
import { print } from "./output.ts";

const networkPath = (name: string, rest: string): string => `/networks/${encodeURIComponent(name)}${rest}`;

export const networkRmCommand: Command = command({
  usage: "[OPTIONS] NETWORK [NETWORK...]",
  about: "Remove networks",
  flags: [onOff("force,f", "No error for a network that does not exist")],
  arity: [1, any],
  run: async ({ args, client, flags, io }) => {
    const failures: string[] = [];
    for (const name of args) {
      try {
        await client.json("DELETE", networkPath(name, ""), { signal: io.gone });
        await print(io, name);
      } catch (error) {
        if (!(flags.on("force") && isStatus(error, 404))) failures.push(errorText(error));
      }
    }
    if (failures.length > 0) throw new ExitError(1, failures.join("\n"));
    return 0;
  },
});

export const networkConnectCommand: Command = command({
  usage: "[OPTIONS] NETWORK CONTAINER",
  about: "Connect a container to a network",
  flags: [
    many("alias", "Further name in the network", { metavar: "strings" }),
    many("driver-opt", "Options of the driver", { metavar: "strings" }),
    int("gw-priority", "The endpoint with the highest gives the default gateway"),
    one("ip", "IPv4 address"),
    one("ip6", "IPv6 address"),
    many("link", "Link to another container", { parse: link }),
    many("link-local-ip", "Link-local address", { metavar: "strings" }),
  ],
  arity: [2, 2],
  run: async ({ args, client, flags, io }) => {
    const [network, container] = args as [string, string];
    const options = flags.list("driver-opt");
    if (options.some((option) => !option.includes("="))) throw new ExitError(1, "invalid key/value pair format in driver options");
    const config = endpoint({
      target: network,
      // The network exists already, so any name will do; modes are refused by the daemon.
      aliases: [...flags.list("alias")],
      links: [...flags.list("link")],
      driverOpts: toMap(options),
      ip: flags.text("ip"),
      ip6: flags.text("ip6"),
      linkLocalIps: [...flags.list("link-local-ip")],
      mac: "",
      gwPriority: flags.number("gw-priority"),
    });
    await client.json("POST", networkPath(network, "/connect"), { body: { Container: container, EndpointConfig: config ?? {} }, signal: io.gone });
    return 0;
  },
});

export const networkDisconnectCommand: Command = command({
  usage: "[OPTIONS] NETWORK CONTAINER",
  about: "Disconnect a container from a network",
  flags: [onOff("force,f", "Although the container may be gone")],
  arity: [2, 2],
  run: async ({ args, client, flags, io }) => {
    const [network, container] = args as [string, string];
    await client.json("POST", networkPath(network, "/disconnect"), { body: { Container: container, Force: flags.on("force") }, signal: io.gone });
    return 0;
  },
});
