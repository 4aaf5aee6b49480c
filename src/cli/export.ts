/** `wherry export`. @module */
import { type Command, command } from "./command.ts";
import { containerPath } from "./each.ts";
import { archiveOut } from "./files.ts";
import { one } from "./flags.ts";

export const exportCommand: Command = command({
  usage: "[OPTIONS] CONTAINER",
  about: "Write a container's filesystem as a tar archive",
  examples: [["export web | tar t", "list its files"]],
  flags: [one("output,o", "File to write, instead of STDOUT")],
  arity: [1, 1],
  run: async ({ args, client, flags, io }) => {
    await archiveOut(io, { path: flags.text("output"), what: "failed to export container" }, () =>
      client.stream("GET", containerPath(args[0]!, "/export"), { signal: io.gone }),
    );
    return 0;
  },
});
