/** `wherry image import-store`. @module */
import { resolve } from "node:path";
import { type Command, command } from "./command.ts";
import { ExitError } from "./errors.ts";
import { onOff } from "./flags.ts";
import { renderProgress } from "./progress.ts";

export const importStoreCommand: Command = command({
  usage: "[OPTIONS] DIR",
  about: "Take over the images of a docker's data root (drivers overlay2 and overlay), which is only read",
  examples: [["image import-store /var/lib/docker", "all images of the docker that was used here, under their ids and names"]],
  flags: [onOff("quiet,q", "No progress")],
  arity: [1, 1],
  run: async ({ args, client, flags, io }) => {
    const { body } = await client.stream("POST", "/wherry/images/import-store", { query: { dir: resolve(io.cwd, args[0]!) }, signal: io.gone });
    let refused = 0;
    await renderProgress(body, {
      io,
      quiet: flags.on("quiet"),
      onAux: (aux) => {
        refused = (aux as { Refused?: number }).Refused ?? 0; // the last line of this route
      },
    });
    if (refused > 0) throw new ExitError(1, `${refused} of the images could not be taken over`);
    return 0;
  },
});
