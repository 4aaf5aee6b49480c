/** `wherry ps`. @module */
import type { ContainerSummary, PortJson } from "#api/types/mod.ts";
import { type Command, command } from "./command.ts";
import { int, many, onOff } from "./flags.ts";
import { filtersQuery, formatFlag } from "./list-flags.ts";
import { ago, ellipsis, goTime, humanSize, truncateId } from "./format/human.ts";
import { type Columns, formatList } from "./format/list.ts";
import { labelText } from "./format/labels.ts";
import { type Fielded, fielded, goQuote } from "./format/print.ts";
import { compileTemplate, TemplateError } from "./format/template.ts";
import { filter } from "./options/validate.ts";
import { familiarName } from "./options/reference.ts";
import { warn, write } from "./output.ts";

const raw = `container_id: {{.ID}}
image: {{.Image}}
command: {{.Command}}
created_at: {{.CreatedAt}}
state: {{- pad .State 1 0}}
status: {{- pad .Status 1 0}}
names: {{.Names}}
labels: {{- pad .Labels 1 0}}
ports: {{- pad .Ports 1 0}}
`;
const table = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

export const psCommand: Command = command({
  usage: "[OPTIONS]",
  about: "List containers",
  examples: [
    ["ps -a", "stopped ones too"],
    ["ps -f status=exited -q", "ids of those that have ended"],
    ["ps --format '{{.Names}}: {{.Status}}'", "what to print of each"],
  ],
  flags: [
    onOff("all,a", "Show all containers, not only running ones"),
    many("filter,f", "Only those that match (status=exited, name=…, label=…, ancestor=…)", { metavar: "filter", parse: filter }),
    formatFlag,
    int("last,n", "Show the last created containers, whatever their state", -1),
    onOff("latest,l", "Show the last created container"),
    onOff("mark-open", "On a terminal, say which ports are open to the world", true),
    onOff("no-trunc", "Do not shorten"),
    onOff("quiet,q", "Only ids"),
    onOff("size,s", "Show sizes"),
  ],
  arity: [0, 0],
  run: async ({ client, flags, io }) => {
    const quiet = flags.on("quiet") ? "{{.ID}}" : undefined;
    const custom = !["", "table", "raw"].includes(flags.text("format"));
    if (quiet !== undefined && custom) warn(io, "WARNING: Ignoring custom format, because both --format and --quiet are set.");
    const format = quiet === undefined ? flags.text("format") : "";
    const noTrunc = flags.on("no-trunc");
    const columns = containerColumns(noTrunc, Date.now());
    const last = flags.on("latest") && flags.number("last") === -1 ? 1 : flags.number("last");
    const size = flags.on("size") || (custom && quiet === undefined && printsSize(format, columns));
    const containers = await client.json<ContainerSummary[]>("GET", "/containers/json", {
      query: {
        all: flags.on("all") || last > 0 ? 1 : undefined,
        limit: last > 0 ? last : undefined,
        size: size ? 1 : undefined,
        filters: filtersQuery(flags.list<readonly [string, string]>("filter")),
      },
      signal: io.gone,
    });
    const marked: typeof columns = { ...columns, Ports: { header: "PORTS", value: (c) => portsText(c.Ports, true) } };
    const text = formatList(containers, {
      columns: io.isTty.stdout && format === "" && flags.on("mark-open") ? marked : columns,
      format,
      table: flags.on("size") ? `${table}\t{{.Size}}` : table,
      quiet,
      raw: flags.on("size") ? `${raw}size: {{.Size}}\n` : raw,
      label: (c, name) => c.Labels[name] ?? "",
    });
    await write(io.stdout, text);
    return 0;
  },
});

/** Whether a template asks for sizes, or for everything: they are not computed for others. Throws Error in docker's words for one that cannot be. */
function printsSize(format: string, columns: Columns<ContainerSummary>): boolean {
  let asked = false;
  const probe: Fielded = {
    [fielded]: true,
    field: (name) => {
      asked ||= name === "Size";
      if (name === "Label") return () => "";
      return Object.hasOwn(columns, name) ? "" : undefined;
    },
    toJSON: () => {
      asked = true;
      return {};
    },
  };
  try {
    compileTemplate(format).execute(probe);
  } catch (error) {
    if (!(error instanceof TemplateError)) throw error;
    const runs = error.message.includes(": executing ");
    // The probe's fields are empty: what a template cannot do with them it may well do with a container's.
    if (!runs || error.message.includes("can't evaluate field"))
      throw new Error(`failed to ${runs ? "execute" : "parse"} template: ${error.message}`, { cause: error });
  }
  return asked;
}

/** The fields of `--format`. */
export function containerColumns(noTrunc: boolean, now: number): Columns<ContainerSummary> {
  return {
    ID: { header: "CONTAINER ID", value: (c) => (noTrunc ? c.Id : truncateId(c.Id)) },
    Names: { header: "NAMES", value: (c) => namesOf(c, noTrunc) },
    Image: { header: "IMAGE", value: (c) => imageOf(c, noTrunc) },
    Command: { header: "COMMAND", value: (c) => goQuote(noTrunc ? c.Command : ellipsis(c.Command, 20)) },
    CreatedAt: { header: "CREATED AT", value: (c) => goTime(c.Created) },
    RunningFor: { header: "CREATED", value: (c) => ago(c.Created * 1000, now) },
    Ports: { header: "PORTS", value: (c) => portsText(c.Ports) },
    State: { header: "STATE", value: (c) => c.State },
    Status: { header: "STATUS", value: (c) => c.Status },
    Size: { header: "SIZE", value: sizeOf },
    Labels: { header: "LABELS", value: (c) => labelText(c.Labels) },
    Mounts: {
      header: "MOUNTS",
      value: (c) =>
        c.Mounts.map((m) => (m.Name === undefined || m.Name === "" ? m.Source : m.Name))
          .map((n) => (noTrunc ? n : ellipsis(n, 15)))
          .join(","),
    },
    LocalVolumes: { header: "LOCAL VOLUMES", value: (c) => String(c.Mounts.filter((m) => m.Driver === "local").length) },
    Networks: { header: "NETWORKS", value: (c) => Object.keys(c.NetworkSettings.Networks).join(",") },
    // Docker's, for images of a containerd store.
    Platform: { header: "PLATFORM", value: () => null },
  };
}

function namesOf(container: ContainerSummary, noTrunc: boolean): string {
  const names = container.Names.map((name) => name.replace(/^\//, ""));
  // A name with a slash is a link's.
  return (noTrunc ? names : names.filter((name) => !name.includes("/")).slice(0, 1)).join(",");
}

function imageOf(container: ContainerSummary, noTrunc: boolean): string {
  const { Image: image, ImageID: id } = container;
  if (image === "") return "<no image>";
  if (noTrunc) return image;
  if (id !== "" && truncateId(id) === truncateId(image)) return truncateId(id);
  return familiarName(image);
}

function sizeOf({ SizeRw = 0, SizeRootFs = 0 }: ContainerSummary): string {
  return SizeRootFs > 0 ? `${humanSize(SizeRw)} (virtual ${humanSize(SizeRootFs)})` : humanSize(SizeRw);
}

function hostPort(ip: string, port: string | number): string {
  return ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
}

/** Docker's column (on a terminal with a mark behind those that are open to the world): ranges of equal host and container ports are joined, other mappings follow. */
export function portsText(ports: readonly PortJson[], markOpen = false): string {
  const order = (a: PortJson, b: PortJson) =>
    a.PrivatePort - b.PrivatePort || compare(a.IP ?? "", b.IP ?? "") || (a.PublicPort ?? 0) - (b.PublicPort ?? 0) || compare(a.Type, b.Type);
  const groups = new Map<string, { ip: string; type: string; first: number; last: number }>();
  const result: string[] = [];
  const mappings: string[] = [];
  for (const { IP: ip = "", PrivatePort: port, PublicPort: publicPort = 0, Type: type } of [...ports].sort(order)) {
    if (ip !== "" && publicPort !== port) {
      mappings.push(`${hostPort(ip, publicPort)}->${port}/${type}${markOpen ? openMark(ip) : ""}`);
      continue;
    }
    const key = `${ip}/${type}`;
    const group = groups.get(key);
    if (group !== undefined && port === group.last + 1) group.last = port;
    else {
      if (group !== undefined) result.push(groupText(group, markOpen));
      groups.set(key, { ip, type, first: port, last: port });
    }
  }
  return [...result, ...[...groups.values()].map((group) => groupText(group, markOpen)), ...mappings].join(", ");
}

/** Behind what listens on every address of the host. */
function openMark(ip: string): string {
  return ip === "0.0.0.0" || ip === "::" ? " (open to the world)" : "";
}

function groupText({ ip, type, first, last }: { ip: string; type: string; first: number; last: number }, markOpen: boolean): string {
  const range = first === last ? String(first) : `${first}-${last}`;
  return `${ip === "" ? range : `${hostPort(ip, range)}->${range}`}/${type}${markOpen ? openMark(ip) : ""}`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
