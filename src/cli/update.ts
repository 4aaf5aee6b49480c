/** `wherry update`. @module */
import { any, type Command, command } from "./command.ts";
import { resources } from "./create-body.ts";
import { containerPath, forEach } from "./each.ts";
import { ExitError } from "./errors.ts";
import { one } from "./flags.ts";
import { resourceFlags } from "./container-flags.ts";
import { parseRestart } from "./options/host-options.ts";
import { print } from "./output.ts";

export const updateCommand: Command = command({
  usage: "[OPTIONS] CONTAINER [CONTAINER...]",
  about: "Change the limits of containers, running or not",
  examples: [["update -m 128m --memory-swap 128m web", "more memory"]],
  flags: [...resourceFlags, one("restart", "When to start again: no, always, unless-stopped, on-failure[:N]")],
  arity: [1, any],
  run: async (call) => {
    const { client, flags, io } = call;
    if (!flags.anyChanged) throw new ExitError(1, "you must provide one or more flags when using this command");
    const body = { ...resources(flags), RestartPolicy: parseRestart(flags.text("restart")) };
    const warnings: string[] = [];
    try {
      await forEach(call, call.args, async (name) => {
        const reply = await client.json<{ Warnings: string[] | null }>("POST", containerPath(name, "/update"), { body, signal: io.gone });
        warnings.push(...(reply.Warnings ?? []));
      });
    } finally {
      if (warnings.length > 0) await print(io, warnings.join("\n"));
    }
    return 0;
  },
});
