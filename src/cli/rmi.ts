/** `wherry rmi`. @module */
import type { DeleteItem } from "#api/types/mod.ts";
import { any, type Command, command } from "./command.ts";
import { imagePath } from "./each.ts";
import { errorText, ExitError, isStatus } from "./errors.ts";
import { many, onOff } from "./flags.ts";
import { checkPlatform } from "./options/platform.ts";
import { print } from "./output.ts";

export const rmiCommand: Command = command({
  usage: "[OPTIONS] IMAGE [IMAGE...]",
  about: "Remove images",
  examples: [["rmi -f busybox", "although a stopped container uses it"]],
  flags: [
    onOff("force,f", "Remove although it is used or has several names"),
    onOff("no-prune", "Keep untagged parents"),
    many("platform", "Only this platform", { metavar: "strings" }),
  ],
  arity: [1, any],
  run: async ({ args, client, flags, io }) => {
    for (const platform of flags.list("platform")) checkPlatform(platform);
    const failures: string[] = [];
    let fatal = false;
    for (const name of args) {
      try {
        const items = await client.json<DeleteItem[]>("DELETE", imagePath(name, ""), {
          query: { force: flags.on("force") ? 1 : undefined, noprune: flags.on("no-prune") ? 1 : undefined },
          signal: io.gone,
        });
        for (const item of items) await print(io, "Deleted" in item ? `Deleted: ${item.Deleted}` : `Untagged: ${item.Untagged}`);
      } catch (error) {
        if (!isStatus(error, 404) || !flags.on("force")) fatal = true;
        failures.push(errorText(error));
      }
    }
    if (failures.length > 0) throw new ExitError(fatal ? 1 : 0, failures.join("\n"));
    return 0;
  },
});
