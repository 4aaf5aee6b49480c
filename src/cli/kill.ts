/** `wherry kill`. @module */
import type { Command } from "./command.ts";
import { containerVerb } from "./each.ts";
import { one } from "./flags.ts";

export const killCommand: Command = containerVerb({
  about: "Kill running containers",
  verb: "kill",
  flags: [one("signal,s", "Signal to send instead of KILL")],
  examples: [["kill -s HUP web", "send SIGHUP"]],
  query: ({ flags }) => ({ signal: flags.text("signal") || undefined }),
});
