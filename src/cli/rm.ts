/** `wherry rm`. @module */
import { any, type Command, command } from "./command.ts";
import { containerPath, forEach } from "./each.ts";
import { errorText, isStatus } from "./errors.ts";
import { onOff } from "./flags.ts";
import { warn } from "./output.ts";

export const rmCommand: Command = command({
  usage: "[OPTIONS] CONTAINER [CONTAINER...]",
  about: "Remove containers",
  examples: [["rm -fv web", "kill it if it runs; its anonymous volumes go too"]],
  flags: [
    onOff("force,f", "Kill a running container first"),
    onOff("link,l", "Remove a link instead of a container"),
    onOff("volumes,v", "Remove its anonymous volumes too"),
  ],
  arity: [1, any],
  run: async (call) => {
    const { client, flags, io } = call;
    const missing = new Set<string>();
    await forEach(
      call,
      call.args,
      async (given) => {
        const name = given.replace(/^\/+/, "");
        if (name === "") throw new Error("container name cannot be empty");
        try {
          await client.json("DELETE", containerPath(name, ""), {
            query: { force: flags.on("force") ? 1 : undefined, v: flags.on("volumes") ? 1 : undefined, link: flags.on("link") ? 1 : undefined },
            signal: io.gone,
          });
        } catch (error) {
          // With --force, what is not there is as it should be.
          if (!flags.on("force") || !isStatus(error, 404)) throw error;
          missing.add(given);
          warn(io, errorText(error));
        }
      },
      (name) => (missing.has(name) ? undefined : name),
    );
    return 0;
  },
});
