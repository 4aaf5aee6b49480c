/** `wherry push`. @module */
import { parseReference } from "#core/reference.ts";
import { type Command, command } from "./command.ts";
import { imagePath } from "./each.ts";
import { one, onOff } from "./flags.ts";
import { contentTrustFlag } from "./options/content-trust.ts";
import { splitTag } from "./options/reference.ts";
import { checkPlatform } from "./options/platform.ts";
import { print } from "./output.ts";
import { renderProgress } from "./progress.ts";
import { authHeaders } from "./registry/registry-auth.ts";

export const pushCommand: Command = command({
  usage: "[OPTIONS] NAME[:TAG]",
  about: "Send an image to a registry",
  flags: [
    onOff("all-tags,a", "All tags of the repository"),
    contentTrustFlag,
    one("platform", "Only this platform, as linux/amd64"),
    onOff("quiet,q", "Only the name"),
  ],
  arity: [1, 1],
  run: async ({ args, client, flags, io }) => {
    checkPlatform(flags.text("platform"), "invalid platform: ");
    parseReference(args[0]!);
    const { repository, tag } = splitTag(args[0]!);
    const [all, quiet] = [flags.on("all-tags"), flags.on("quiet")];
    if (all && tag !== "") throw new Error("tag can't be used with --all-tags/-a");
    if (!all && !quiet && tag === "" && !args[0]!.includes("@")) await print(io, "Using default tag: latest");
    const query = { tag: all ? undefined : tag || "latest", platform: flags.text("platform") || undefined };
    const headers = await authHeaders(io, args[0]!);
    const { body } = await client.stream("POST", imagePath(repository, "/push"), { query, headers, signal: io.gone });
    await renderProgress(body, { io, quiet });
    if (quiet) await print(io, args[0]!);
    return 0;
  },
});
