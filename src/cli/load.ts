/** `wherry load`. @module */
import { type Command, command } from "./command.ts";
import { ExitError } from "./errors.ts";
import { openInput } from "./files.ts";
import { one, onOff } from "./flags.ts";
import { checkPlatform } from "./options/platform.ts";
import { renderProgress } from "./progress.ts";

export const loadCommand: Command = command({
  usage: "[OPTIONS]",
  about: "Load images from an archive",
  examples: [["load -i box.tar", "from a file, as `save` (or docker save) wrote it"]],
  flags: [one("input,i", "File to read, instead of STDIN"), one("platform", "Only this platform, as linux/amd64"), onOff("quiet,q", "No progress")],
  arity: [0, 0],
  run: async ({ client, flags, io }) => {
    checkPlatform(flags.text("platform"), "invalid platform: ");
    const input = flags.text("input");
    if (input === "" && io.isTty.stdin) throw new ExitError(1, "requested load from stdin, but stdin is empty");
    const body = input === "" ? io.stdin : await openInput(io, input);
    const quiet = flags.on("quiet") || !io.isTty.stdout;
    const reply = await client.stream("POST", "/images/load", {
      query: { quiet: quiet ? 1 : 0, platform: flags.text("platform") || undefined },
      body,
      signal: io.gone,
    });
    await renderProgress(reply.body, { io });
    return 0;
  },
});
