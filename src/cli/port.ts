/** `wherry port`. @module */
import type { ContainerInspect } from "#api/types/mod.ts";
import { type Command, command } from "./command.ts";
import { containerPath } from "./each.ts";
import { ExitError } from "./errors.ts";
import { parseUint } from "./flags.ts";
import { naturalOrder } from "./format/natural.ts";
import { write } from "./output.ts";

export const portCommand: Command = command({
  usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
  about: "Show a container's published ports",
  arity: [1, 2],
  run: async ({ args, client, io }) => {
    const [name, wanted] = args as [string, string?];
    const { NetworkSettings: settings } = await client.json<ContainerInspect>("GET", containerPath(name, "/json"), { signal: io.gone });
    const ports = settings.Ports ?? {};
    let lines: string[];
    if (wanted === undefined) {
      lines = Object.entries(ports).flatMap(([port, bindings]) => (bindings ?? []).map(({ HostIp, HostPort }) => `${port} -> ${address(HostIp, HostPort)}`));
      lines.sort(naturalOrder);
    } else {
      const [number = "", protocol = "tcp"] = wanted.split("/");
      try {
        parseUint(number, 65535);
      } catch (error) {
        throw new ExitError(1, `Error: invalid port (${number}): ${(error as Error).message}`);
      }
      const bindings = ports[`${number}/${protocol}`];
      if (!bindings || bindings.length === 0) throw new ExitError(1, `Error: No public port '${wanted}' published for ${name}`);
      lines = bindings.map(({ HostIp, HostPort }) => address(HostIp, HostPort));
    }
    await write(io.stdout, lines.map((line) => `${line}\n`).join(""));
    return 0;
  },
});

function address(ip: string, port: string): string {
  return ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
}
