/** `wherry save`. @module */
import { any, type Command, command } from "./command.ts";
import { archiveOut } from "./files.ts";
import { one } from "./flags.ts";
import { checkPlatform } from "./options/platform.ts";

export const saveCommand: Command = command({
  usage: "[OPTIONS] IMAGE [IMAGE...]",
  about: "Write images to an archive that `load` reads",
  examples: [["save -o box.tar busybox:latest", "into a file"]],
  flags: [one("output,o", "File to write, instead of STDOUT"), one("platform", "Platform of the image, as linux/amd64")],
  arity: [1, any],
  run: async ({ args, client, flags, io }) => {
    checkPlatform(flags.text("platform"), "invalid platform: ");
    const query = { names: args, platform: flags.text("platform") || undefined };
    await archiveOut(io, { path: flags.text("output"), what: "failed to save image" }, () => client.stream("GET", "/images/get", { query, signal: io.gone }));
    return 0;
  },
});
