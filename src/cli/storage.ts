/** `wherry storage ls` and `wherry storage compare`. @module */
import type { DriverListing, StorageCosts } from "#api/types/wherry-json.ts";
import { type Command, command } from "./command.ts";
import { ExitError } from "./errors.ts";
import { many, one, onOff } from "./flags.ts";
import { binarySize } from "./format/human.ts";
import { type Columns, formatList } from "./format/list.ts";
import { formatFlag } from "./list-flags.ts";
import { write } from "./output.ts";

const listColumns: Columns<DriverListing> = {
  Name: { header: "DRIVER", value: ({ name, inUse }) => (inUse ? `${name} *` : name) },
  State: { header: "WORKS HERE", value: ({ reason }) => reason === undefined },
  Reason: { header: "WHY NOT", value: ({ reason }) => reason ?? "" },
};

export const storageLsCommand: Command = command({
  usage: "[OPTIONS]",
  about: "List the storage drivers, and why one cannot run here",
  flags: [formatFlag],
  arity: [0, 0],
  run: async ({ client, flags, io }) => {
    const drivers = await client.json<DriverListing[]>("GET", "/wherry/storage", { signal: io.gone });
    await write(io.stdout, formatList(drivers, { columns: listColumns, format: flags.text("format"), table: "{{.Name}}\t{{.State}}\t{{.Reason}}" }));
    return 0;
  },
});

const time = (header: string, of: (costs: StorageCosts) => number) => ({ header, value: (costs: StorageCosts) => `${of(costs).toFixed(1)} ms` });

const costColumns: Columns<StorageCosts> = {
  Driver: { header: "DRIVER", value: ({ driver }) => driver },
  Create: time("CREATE", (costs) => costs.createMs),
  Start: time("START", (costs) => costs.startMs),
  CopyUpSmall: time("COPY-UP 1 KiB", (costs) => costs.copyUpSmallMs),
  CopyUpLarge: time("COPY-UP LARGE", (costs) => costs.copyUpLargeMs),
  SmallWrites: time("500 FILES", (costs) => costs.smallWritesMs),
  Chain1: time("1 LAYER", (costs) => costs.chain1Ms),
  Chain20: time("20 LAYERS", (costs) => costs.chain20Ms),
  Chain120: time("120 LAYERS", (costs) => costs.chain120Ms),
  TenContainers: { header: "10 CONTAINERS", value: ({ tenContainersBytes }) => binarySize(tenContainersBytes) },
  Remove: time("REMOVE", (costs) => costs.removeMs),
};

export const storageCompareCommand: Command = command({
  usage: "[OPTIONS]",
  about: "Measure every storage driver that can run on the data root's filesystem, or each on one of its own",
  examples: [
    ["storage compare --large 64", "with a file of 64 MiB to copy up"],
    ["storage compare --loop", "each driver on a new filesystem in a file: btrfs and zfs, too"],
    ["storage compare --driver overlay2 --driver erofs", "these two"],
  ],
  flags: [
    onOff("json", "Print JSON: milliseconds and bytes"),
    onOff("loop", "Give each driver a filesystem of its own on a loop device"),
    many("driver", "Measure this driver, and say why when it cannot run; may be given more than once (default: all that can)"),
    one("large", "Size of the large file in MiB (1 to 1024)", { initial: "16" }),
  ],
  arity: [0, 0],
  run: async ({ client, flags, io }) => {
    const large = Number(flags.text("large"));
    if (!Number.isInteger(large) || large < 1 || large > 1024) throw new ExitError(125, "invalid --large: give a number of MiB from 1 to 1024");
    const costs = await client.json<StorageCosts[]>("POST", "/wherry/storage/compare", {
      query: { large: String(large), ...(flags.on("loop") ? { loop: "1" } : {}), driver: flags.list<string>("driver") },
      signal: io.gone,
    });
    const table = Object.keys(costColumns)
      .map((name) => `{{.${name}}}`)
      .join("\t");
    await write(io.stdout, flags.on("json") ? `${JSON.stringify(costs, undefined, 2)}\n` : formatList(costs, { columns: costColumns, format: "", table }));
    return 0;
  },
});
