/** `wherry pull`. @module */
import { parseReference } from "#core/reference.ts";
import { type Command, command } from "./command.ts";
import { one, onOff } from "./flags.ts";
import { contentTrustFlag } from "./options/content-trust.ts";
import { print } from "./output.ts";
import { pullImage, splitReference } from "./pull-image.ts";

export const pullCommand: Command = command({
  usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
  about: "Fetch an image from a registry",
  flags: [
    onOff("all-tags,a", "All tags of the repository"),
    contentTrustFlag,
    one("platform", "Platform of the image, as linux/amd64"),
    onOff("quiet,q", "Only the name"),
  ],
  arity: [1, 1],
  run: async ({ args, client, flags, io }) => {
    const reference = args[0]!;
    const allTags = flags.on("all-tags");
    const parsed = parseReference(reference);
    if (allTags && (parsed.tag !== undefined || parsed.digest !== undefined)) throw new Error("tag can't be used with --all-tags/-a");
    const { name, tag } = splitReference(reference);
    if (!flags.on("quiet") && !allTags && !reference.includes("@") && !reference.endsWith(`:${tag}`)) await print(io, "Using default tag: latest");
    await pullImage({ io, client, reference, platform: flags.text("platform"), quiet: flags.on("quiet"), output: io.stdout, allTags });
    await print(io, allTags ? canonical(name) : `${canonical(name)}${tag.includes(":") ? "@" : ":"}${tag}`);
    return 0;
  },
});

/** With registry and namespace: `busybox` → `docker.io/library/busybox`. */
function canonical(name: string): string {
  const first = name.split("/")[0]!;
  if (!name.includes("/")) return `docker.io/library/${name}`;
  return first.includes(".") || first.includes(":") || first === "localhost" ? name : `docker.io/${name}`;
}
