/** `wherry tag`. @module */
import { parseReference } from "#core/reference.ts";
import { type Command, command } from "./command.ts";
import { imagePath } from "./each.ts";
import { ExitError } from "./errors.ts";
import { splitTag } from "./options/reference.ts";

export const tagCommand: Command = command({
  usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
  about: "Give an image a further name",
  examples: [["tag busybox:latest mine/box:1", ""]],
  arity: [2, 2],
  run: async ({ args, client, io }) => {
    const [source, target] = args as [string, string];
    try {
      parseReference(target);
    } catch (error) {
      throw new Error(`Error parsing reference: ${JSON.stringify(target)} is not a valid repository/tag: ${(error as Error).message}`, { cause: error });
    }
    if (target.includes("@")) throw new ExitError(1, "refusing to create a tag with a digest reference");
    const { repository, tag } = splitTag(target);
    await client.json("POST", imagePath(source, "/tag"), { query: { repo: repository, tag: tag || "latest" }, signal: io.gone });
    return 0;
  },
});
