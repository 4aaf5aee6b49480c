/** `wherry restart`. @module */
import type { Command } from "./command.ts";
import { containerVerb } from "./each.ts";
import { stopFlags, stopQuery } from "./stop.ts";

export const restartCommand: Command = containerVerb({ about: "Stop and start containers", verb: "restart", flags: stopFlags, query: stopQuery });
