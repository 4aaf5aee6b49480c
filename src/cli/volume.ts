/** `wherry volume create`, `ls`, `rm`. @module */
import type { VolumeJson, VolumeListJson } from "#api/types/mod.ts";
import { any, type Command, command } from "./command.ts";
import { forEach } from "./each.ts";
import { ExitError } from "./errors.ts";
import { many, one, onOff } from "./flags.ts";
import { humanSize } from "./format/human.ts";
import { labelText } from "./format/labels.ts";
import { type Columns, formatList } from "./format/list.ts";
import { naturalOrder } from "./format/natural.ts";
import { filtersQuery, formatFlag } from "./list-flags.ts";
import { filter, label, toMap } from "./options/validate.ts";
import { print, warn, write } from "./output.ts";

export const volumeCreateCommand: Command = command({
  usage: "[OPTIONS] [VOLUME]",
  about: "Create a volume",
  flags: [
    one("driver,d", "Driver", { initial: "local" }),
    many("label", "Set a label", { parse: label }),
    one("name", "Name", { hidden: true }),
    many("opt,o", "Options of the driver", { metavar: "map" }),
  ],
  arity: [0, 1],
  run: async ({ args, client, flags, io }) => {
    if (args.length > 0 && flags.text("name") !== "")
      throw new ExitError(1, "conflicting options: cannot specify a volume-name through both --name and as a positional arg");
    const volume = await client.json<VolumeJson>("POST", "/volumes/create", {
      body: { Driver: flags.text("driver"), DriverOpts: toMap(flags.list("opt")), Labels: toMap(flags.list("label")), Name: args[0] ?? flags.text("name") },
      signal: io.gone,
    });
    await print(io, volume.Name);
    return 0;
  },
});

/** The fields of `--format`. */
export const volumeColumns: Columns<VolumeJson> = {
  Name: { header: "VOLUME NAME", value: (v) => v.Name },
  Driver: { header: "DRIVER", value: (v) => v.Driver },
  Scope: { header: "SCOPE", value: (v) => v.Scope },
  Mountpoint: { header: "MOUNTPOINT", value: (v) => v.Mountpoint },
  Labels: { header: "LABELS", value: (v) => labelText(v.Labels) },
  Links: { header: "LINKS", value: (v) => (v.UsageData === undefined ? "N/A" : String(v.UsageData.RefCount)) },
  Size: { header: "SIZE", value: (v) => (v.UsageData === undefined ? "N/A" : humanSize(v.UsageData.Size, 4)) },
  // Docker's columns for cluster volumes.
  Group: { header: "GROUP", value: () => "N/A" },
  Availability: { header: "AVAILABILITY", value: () => "N/A" },
  Status: { header: "STATUS", value: () => "N/A" },
};

export const volumeLsCommand: Command = command({
  usage: "[OPTIONS]",
  about: "List volumes",
  flags: [
    many("filter,f", "Only those that match (dangling=true, label=…, name=…)", { metavar: "filter", parse: filter }),
    formatFlag,
    onOff("quiet,q", "Only names"),
  ],
  arity: [0, 0],
  run: async ({ client, flags, io }) => {
    const { Volumes: volumes, Warnings: warnings } = await client.json<VolumeListJson>("GET", "/volumes", {
      query: { filters: filtersQuery(flags.list<readonly [string, string]>("filter")) },
      signal: io.gone,
    });
    const sorted = [...(volumes ?? [])].sort((a, b) => naturalOrder(a.Name, b.Name));
    for (const warning of warnings ?? []) warn(io, `WARNING: ${warning}`);
    const text = formatList(sorted, {
      columns: volumeColumns,
      format: flags.text("format"),
      table: "{{.Driver}}\t{{.Name}}",
      quiet: flags.on("quiet") ? "{{.Name}}" : undefined,
      raw: "name: {{.Name}}\ndriver: {{.Driver}}\n",
      label: (v, name) => v.Labels?.[name] ?? "",
    });
    await write(io.stdout, text);
    return 0;
  },
});

export const volumeRmCommand: Command = command({
  usage: "[OPTIONS] VOLUME [VOLUME...]",
  about: "Remove volumes that no container uses",
  flags: [onOff("force,f", "No error for a volume that does not exist")],
  arity: [1, any],
  run: async (call) => {
    const query = { force: call.flags.on("force") ? 1 : undefined };
    await forEach(call, call.args, async (name) => {
      await call.client.json("DELETE", `/volumes/${encodeURIComponent(name)}`, { query, signal: call.io.gone });
    });
    return 0;
  },
});
