/** `wherry top`. @module */
import type { TopResult } from "#api/types/mod.ts";
import { any, type Command, command } from "./command.ts";
import { containerPath } from "./each.ts";
import { alignColumns } from "./format/tabwriter.ts";
import { write } from "./output.ts";

export const topCommand: Command = command({
  usage: "CONTAINER [ps OPTIONS]",
  about: "Show a container's processes",
  examples: [["top web -o pid,user,cmd", "columns as ps takes them"]],
  interspersed: false,
  arity: [1, any],
  run: async ({ args, client, io }) => {
    const [name, ...psArgs] = args as [string, ...string[]];
    const { Titles: titles, Processes: processes } = await client.json<TopResult>("GET", containerPath(name, "/top"), {
      query: { ps_args: psArgs.join(" ") || undefined },
      signal: io.gone,
    });
    await write(io.stdout, alignColumns([titles, ...processes].map((cells) => `${cells.join("\t")}\n`).join(""), 20));
    return 0;
  },
});
