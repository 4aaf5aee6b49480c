/** `wherry dns trace`: what a name means to a container, and who said so. @module */
import type { NameTraceJson } from "#api/types/system-json.ts";
import { type Command, command } from "./command.ts";
import { one } from "./flags.ts";
import { print } from "./output.ts";

export const dnsTraceCommand: Command = command({
  usage: "[OPTIONS] NAME",
  about: "Show how a name is resolved: in which network, or by which server",
  examples: [["dns trace --from web db", "what the container web gets when it asks for db"]],
  flags: [one("from", "As this container would see it (default: all networks)", { metavar: "container" }), one("type", "A or AAAA", { initial: "A" })],
  arity: [1, 1],
  run: async ({ args, client, flags, io }) => {
    const from = flags.text("from");
    const query = { name: args[0]!, type: flags.text("type"), ...(from === "" ? {} : { container: from }) };
    const { found, asked, internal, refused } = await client.json<NameTraceJson>("GET", "/wherry/dns", { query, signal: io.gone });
    for (const { network, container, addresses } of found) await print(io, `network ${network}: ${container} at ${addresses.join(", ") || "no address"}`);
    if (found.length > 0) return 0;
    await print(io, from === "" ? "no network knows it" : `no network of ${from} knows it`);
    if (internal) await print(io, `nobody is asked: ${from} is on internal networks only`);
    else if (refused) await print(io, `nobody is asked: the egress rules of ${from} do not name it`);
    else if (asked.length === 0) await print(io, "nobody is asked: there are no name servers");
    for (const { server, result, ms } of asked) await print(io, `server ${server}: ${result} (${ms.toFixed(1)} ms)`);
    return asked.some(({ answered }) => answered) ? 0 : 1;
  },
});
