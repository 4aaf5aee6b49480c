/** `wherry history`. @module */
import type { HistoryItem } from "#api/types/mod.ts";
import { type Command, command } from "./command.ts";
import { imagePath } from "./each.ts";
import { one, onOff } from "./flags.ts";
import { ago, ellipsis, humanSize, truncateId } from "./format/human.ts";
import { formatList } from "./format/list.ts";
import { formatFlag } from "./list-flags.ts";
import { checkPlatform } from "./options/platform.ts";
import { write } from "./output.ts";

export const historyCommand: Command = command({
  usage: "[OPTIONS] IMAGE",
  about: "Show how an image was made, newest step first",
  flags: [
    formatFlag,
    onOff("human,H", "Sizes and times for people", true),
    onOff("no-trunc", "Do not shorten"),
    one("platform", "Platform of the image"),
    onOff("quiet,q", "Only ids"),
  ],
  arity: [1, 1],
  run: async ({ args, client, flags, io }) => {
    checkPlatform(flags.text("platform"), "invalid platform: ");
    const items = await client.json<HistoryItem[]>("GET", imagePath(args[0]!, "/history"), {
      query: { platform: flags.text("platform") || undefined },
      signal: io.gone,
    });
    const human = flags.on("human");
    const noTrunc = flags.on("no-trunc");
    const now = Date.now();
    const created = (item: HistoryItem) => new Date(item.Created * 1000).toISOString().replace(".000Z", "Z");
    const text = formatList(items, {
      columns: {
        ID: { header: "IMAGE", value: (item) => (noTrunc || item.Id === "<missing>" ? item.Id : truncateId(item.Id)) },
        CreatedAt: { header: "CREATED AT", value: created },
        CreatedSince: { header: human ? "CREATED" : "CREATED AT", value: (item) => (human ? ago(item.Created * 1000, now) : created(item)) },
        CreatedBy: {
          header: "CREATED BY",
          value: ({ CreatedBy: by }) => {
            const line = by.replaceAll("\t", " ");
            return noTrunc ? line : ellipsis(line, 45);
          },
        },
        Size: { header: "SIZE", value: (item) => (human ? humanSize(item.Size) : String(item.Size)) },
        Comment: { header: "COMMENT", value: (item) => item.Comment },
      },
      format: flags.text("format"),
      table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
      quiet: flags.on("quiet") ? "{{.ID}}" : undefined,
    });
    await write(io.stdout, text);
    return 0;
  },
});
