/** `wherry stop`. @module */
import type { Call, Command } from "./command.ts";
import { containerVerb } from "./each.ts";
import { type Flag, hidden, int, one } from "./flags.ts";

/** Flags of stop and restart. */
export const stopFlags: readonly Flag[] = [
  one("signal,s", "Signal to send"),
  int("timeout,t", "Seconds to wait before killing (-1: for ever)"),
  hidden(int("time", "Seconds to wait before killing")),
];

export function stopQuery({ flags }: Call): { readonly signal: string | undefined; readonly t: number | undefined } {
  const seconds = flags.changed("timeout") ? flags.number("timeout") : flags.changed("time") ? flags.number("time") : undefined;
  return { signal: flags.text("signal") || undefined, t: seconds };
}

export const stopCommand: Command = containerVerb({
  about: "Stop running containers",
  verb: "stop",
  flags: stopFlags,
  examples: [["stop -t 2 web", "give it two seconds, then kill it"]],
  query: stopQuery,
});
