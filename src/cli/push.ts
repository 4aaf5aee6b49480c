/** `wherry push`. @module */
import { type Command, command } from "./command.ts";
import { imagePath } from "./each.ts";
import { hidden, one, onOff } from "./flags.ts";
import { splitTag } from "./options/reference.ts";
import { print } from "./output.ts";
import { renderProgress } from "./progress.ts";
import { authHeaders } from "./registry/registry-auth.ts";

export const pushCommand: Command = command({
  usage: "[OPTIONS] NAME[:TAG]",
  about: "Send an image to a registry",
  flags: [
    onOff("all-tags,a", "All tags of the repository"),
    hidden(onOff("disable-content-trust", "Skip image signing", true)),
    one("platform", "Only this platform, as linux/amd64"),
    onOff("quiet,q", "Only the name"),
  ],
  arity: [1, 1],
  run: async ({ args, client, flags, io }) => {
    const { repository, tag } = splitTag(args[0]!);
    const query = { tag: flags.on("all-tags") ? undefined : tag || "latest", platform: flags.text("platform") || undefined };
    const headers = await authHeaders(io, args[0]!);
    const { body } = await client.stream("POST", imagePath(repository, "/push"), { query, headers, signal: io.gone });
    await renderProgress(body, { io, quiet: flags.on("quiet") });
    if (flags.on("quiet")) await print(io, args[0]!);
    return 0;
  },
});
