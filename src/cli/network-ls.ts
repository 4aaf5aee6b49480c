/** `wherry network ls`. @module */
import type { NetworkJson } from "#api/types/mod.ts";
import { type Command, command } from "./command.ts";
import { many, onOff } from "./flags.ts";
import { truncateId } from "./format/human.ts";
import { labelText } from "./format/labels.ts";
import { formatList } from "./format/list.ts";
import { naturalOrder } from "./format/natural.ts";
import { filtersQuery, formatFlag } from "./list-flags.ts";
import { filter } from "./options/validate.ts";
import { write } from "./output.ts";

export const networkLsCommand: Command = command({
  usage: "[OPTIONS]",
  about: "List networks",
  flags: [
    many("filter,f", "Only those that match (driver=bridge, label=…)", { metavar: "filter", parse: filter }),
    formatFlag,
    onOff("no-trunc", "Do not shorten"),
    onOff("quiet,q", "Only ids"),
  ],
  arity: [0, 0],
  run: async ({ client, flags, io }) => {
    const networks = await client.json<NetworkJson[]>("GET", "/networks", {
      query: { filters: filtersQuery(flags.list<readonly [string, string]>("filter")) },
      signal: io.gone,
    });
    networks.sort((a, b) => naturalOrder(a.Name, b.Name));
    const text = formatList(networks, {
      columns: {
        ID: { header: "NETWORK ID", value: (n) => (flags.on("no-trunc") ? n.Id : truncateId(n.Id)) },
        Name: { header: "NAME", value: (n) => n.Name },
        Driver: { header: "DRIVER", value: (n) => n.Driver },
        Scope: { header: "SCOPE", value: (n) => n.Scope },
        IPv4: { header: "IPV4", value: (n) => String(n.EnableIPv4) },
        IPv6: { header: "IPV6", value: (n) => String(n.EnableIPv6) },
        Internal: { header: "INTERNAL", value: (n) => String(n.Internal) },
        Labels: { header: "LABELS", value: (n) => labelText(n.Labels) },
        CreatedAt: { header: "CREATED AT", value: (n) => goTimestamp(n.Created) },
      },
      format: flags.text("format"),
      table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
      quiet: flags.on("quiet") ? "{{.ID}}" : undefined,
      raw: "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
      label: (n, name) => n.Labels[name] ?? "",
    });
    await write(io.stdout, text);
    return 0;
  },
});

/** RFC 3339 as Go prints a time: `2025-01-02 03:04:05.5 +0000 UTC`. */
function goTimestamp(text: string): string {
  const match = /^(\d{4}-\d\d-\d\d)T([\d:.]+)(Z|[+-]\d\d:\d\d)$/.exec(text);
  if (match === null) return text;
  const zone = match[3] === "Z" ? "+0000 UTC" : `${match[3]!.replace(":", "")} ${match[3]!.replace(":", "")}`;
  return `${match[1]} ${match[2]} ${zone}`;
}
