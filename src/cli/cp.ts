/** `wherry cp`: the arguments are checked as docker's; the copy itself needs API routes that this version lacks. @module */
import { type Command, command } from "./command.ts";
import { ExitError } from "./errors.ts";
import { onOff } from "./flags.ts";

export const cpCommand: Command = command({
  usage: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH",
  about: "Copy files between a container and here (not supported by this version)",
  flags: [onOff("archive,a", "Keep owners"), onOff("follow-link,L", "Follow symbolic links in SRC_PATH"), onOff("quiet,q", "No progress")],
  arity: [2, 2],
  run: async ({ args }) => {
    const inContainer = args.map((arg) => !/^[./]/.test(arg) && arg.includes(":"));
    if (args.some((arg) => arg === "")) throw new ExitError(1, inContainer[0] ? "destination can not be empty" : "source can not be empty");
    if (inContainer.every(Boolean)) throw new ExitError(1, "copying between containers is not supported");
    if (!inContainer.some(Boolean)) throw new ExitError(1, "must specify at least one container source");
    throw new ExitError(
      1,
      "wherry: copying files (cp) is not supported by this version\nHint: `wherry export` writes a container's filesystem as a tar archive; a bind mount (-v) shares a directory",
    );
  },
});
