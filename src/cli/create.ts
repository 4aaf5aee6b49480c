/** `wherry create`. @module */
import { any, type Command, command } from "./command.ts";
import { containerFlags } from "./container-flags.ts";
import { createBody, type CreateBody } from "./create-body.ts";
import { checkPullPolicy, createContainer } from "./create-container.ts";
import { errorText, ExitError, hintOf } from "./errors.ts";
import { print } from "./output.ts";

export const createCommand: Command = command({
  usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
  about: "Create a new container; `wherry start` starts it",
  examples: [["create --name box busybox sleep 100", "make it, start it later"]],
  flags: containerFlags,
  interspersed: false,
  arity: (flags) => [flags.text("rootfs") === "" ? 1 : 0, any],
  run: async (call) => {
    let body: CreateBody;
    try {
      checkPullPolicy(call.flags.text("pull"));
      body = await createBody(call.flags, call.args, call.io);
    } catch (error) {
      const hint = hintOf(error);
      const where = hint === undefined ? "" : `\nHint: ${hint}`;
      // Only what was wrong with the command line is docker's 125.
      throw new ExitError(125, `wherry: ${errorText(error)}${where}\n\nRun '${call.path} --help' for more information`);
    }
    await print(call.io, await createContainer(call, body));
    return 0;
  },
});
