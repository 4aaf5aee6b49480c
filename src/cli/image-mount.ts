/** `wherry image mount` and `wherry image unmount`. @module */
import type { ImageMount } from "#api/types/wherry-json.ts";
import { type Command, command } from "./command.ts";
import { ExitError } from "./errors.ts";
import { onOff } from "./flags.ts";
import { truncateId } from "./format/human.ts";
import { write } from "./output.ts";

export const imageMountCommand: Command = command({
  usage: "[IMAGE...]",
  about: "Mount images read-only on the host and print where; without one, list those that are mounted",
  examples: [["image mount busybox", "/run/wherry/images/…, until it is unmounted or the daemon ends"]],
  flags: [],
  arity: [0, Number.POSITIVE_INFINITY],
  run: async ({ client, args, io }) => {
    if (args.length === 0) {
      const mounts = await client.json<ImageMount[]>("GET", "/wherry/images/mounts", { signal: io.gone });
      await write(io.stdout, mounts.map(({ id, directory }) => `${truncateId(id)}  ${directory}\n`).join(""));
      return 0;
    }
    for (const name of args) {
      const { directory } = await client.json<ImageMount>("POST", "/wherry/images/mounts", { query: { image: name }, signal: io.gone });
      await write(io.stdout, `${directory}\n`);
    }
    return 0;
  },
});

export const imageUnmountCommand: Command = command({
  usage: "[OPTIONS] [IMAGE...]",
  about: "Unmount images",
  flags: [onOff("all,a", "Every image that is mounted")],
  arity: [0, Number.POSITIVE_INFINITY],
  run: async ({ client, args, flags, io }) => {
    if (flags.on("all") === args.length > 0) throw new ExitError(125, "name the images to unmount, or give --all");
    const names = flags.on("all") ? (await client.json<ImageMount[]>("GET", "/wherry/images/mounts", { signal: io.gone })).map(({ id }) => id) : args;
    for (const name of names) {
      const { id } = await client.json<ImageMount>("DELETE", "/wherry/images/mounts", { query: { image: name }, signal: io.gone });
      await write(io.stdout, `${truncateId(id)}\n`);
    }
    return 0;
  },
});
