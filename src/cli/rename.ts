/** `wherry rename`. @module */
import { type Command, command } from "./command.ts";
import { containerPath } from "./each.ts";
import { errorText, ExitError } from "./errors.ts";

export const renameCommand: Command = command({
  usage: "CONTAINER NEW_NAME",
  about: "Rename a container",
  arity: [2, 2],
  run: async ({ args, client, io }) => {
    const [name, newName] = args as [string, string];
    if (name.trim() === "" || newName.trim() === "") throw new ExitError(1, "Error: Neither old nor new names may be empty");
    try {
      await client.json("POST", containerPath(name.trim(), "/rename"), { query: { name: newName.trim() }, signal: io.gone });
    } catch (error) {
      throw new ExitError(1, `${errorText(error)}\nError: failed to rename container named ${name}`);
    }
    return 0;
  },
});
