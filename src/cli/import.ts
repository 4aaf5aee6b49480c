/** `wherry import`. @module */
import { parseReference } from "#core/reference.ts";
import { type Command, command } from "./command.ts";
import { openInput } from "./files.ts";
import { many, one } from "./flags.ts";
import { renderProgress } from "./progress.ts";

export const importCommand: Command = command({
  usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
  about: "Make an image of a tar archive of a filesystem",
  examples: [["import -c 'CMD [\"/bin/bash\"]' debian.tar mydebian", "with a default command"]],
  flags: [many("change,c", "Apply a Dockerfile instruction"), one("message,m", "Commit message"), one("platform", "Platform of the image, as linux/amd64")],
  arity: [1, 2],
  run: async ({ args, client, flags, io }) => {
    const [source, reference] = args as [string, string?];
    if (reference !== undefined) parseReference(reference);
    const remote = /^https?:\/\//.test(source);
    const body = remote ? undefined : source === "-" ? io.stdin : await openInput(io, source);
    const reply = await client.stream("POST", "/images/create", {
      query: {
        fromSrc: remote ? source : "-",
        repo: reference,
        message: flags.text("message") || undefined,
        changes: flags.changed("change") ? flags.list("change") : undefined,
        platform: flags.text("platform") || undefined,
      },
      body,
      signal: io.gone,
    });
    await renderProgress(reply.body, { io });
    return 0;
  },
});
