/** `wherry commit`. @module */
import { parseReference } from "#core/reference.ts";
import { type Command, command } from "./command.ts";
import { many, one, onOff } from "./flags.ts";
import { splitTag } from "./options/reference.ts";
import { print } from "./output.ts";

export const commitCommand: Command = command({
  usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
  about: "Make an image of a container's changes",
  examples: [["commit -c 'CMD [\"httpd\"]' box web:1", ""]],
  flags: [
    one("author,a", "Author"),
    many("change,c", "Apply a Dockerfile instruction"),
    one("message,m", "Commit message"),
    onOff("pause,p", "Freeze the container meanwhile", true),
  ],
  arity: [1, 2],
  run: async ({ args, client, flags, io }) => {
    if (args[1] !== undefined && args[1] !== "") parseReference(args[1]);
    const { repository, tag } = splitTag(args[1] ?? "");
    const { Id: id } = await client.json<{ Id: string }>("POST", "/commit", {
      query: {
        container: args[0]!,
        repo: repository || undefined,
        tag: repository === "" ? undefined : tag || "latest",
        comment: flags.text("message"),
        author: flags.text("author"),
        changes: flags.changed("change") ? flags.list("change") : undefined,
        pause: flags.on("pause") ? undefined : 0,
      },
      signal: io.gone,
    });
    await print(io, id);
    return 0;
  },
});
