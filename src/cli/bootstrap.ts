/** `wherry image bootstrap`. @module */
import { type Command, command } from "./command.ts";
import { onOff } from "./flags.ts";
import { print } from "./output.ts";
import { renderProgress } from "./progress.ts";

export const bootstrapCommand: Command = command({
  usage: "[OPTIONS] busybox|debian[:SUITE]",
  about: "Make a base image from Debian packages of this machine's archive",
  examples: [
    ["image bootstrap busybox", "a small one, in a second"],
    ["image bootstrap debian:bookworm", "a whole Debian, with debootstrap"],
  ],
  flags: [onOff("quiet,q", "Only the id")],
  arity: [1, 1],
  run: async ({ args, client, flags, io }) => {
    const { body } = await client.stream("POST", "/wherry/images/bootstrap", { query: { what: args[0]! }, signal: io.gone });
    let id = "";
    await renderProgress(body, {
      io,
      quiet: flags.on("quiet"),
      onAux: (aux) => {
        id = (aux as { ID?: string }).ID ?? id; // the last line of this route
      },
    });
    if (id !== "") await print(io, id);
    return 0;
  },
});
