/** `wherry diff`. @module */
import type { ChangeItem } from "#api/types/mod.ts";
import { type Command, command } from "./command.ts";
import { containerPath } from "./each.ts";
import { one } from "./flags.ts";
import { formatList } from "./format/list.ts";
import { write } from "./output.ts";

const letters = ["C", "A", "D"];

export const diffCommand: Command = command({
  usage: "CONTAINER",
  about: "Show what changed in a container's filesystem: A added, C changed, D deleted",
  flags: [one("format", "How to print", { hidden: true })],
  arity: [1, 1],
  run: async ({ args, client, flags, io }) => {
    const changes = (await client.json<ChangeItem[] | null>("GET", containerPath(args[0]!, "/changes"), { signal: io.gone })) ?? [];
    const text = formatList(changes, {
      columns: {
        Type: { header: "CHANGE TYPE", value: (change) => letters[change.Kind] ?? "" },
        Path: { header: "PATH", value: (change) => change.Path },
      },
      format: flags.text("format") || "{{.Type}} {{.Path}}",
      table: "{{.Type}}\t{{.Path}}",
    });
    await write(io.stdout, text);
    return 0;
  },
});
