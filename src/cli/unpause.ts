/** `wherry unpause`. @module */
import type { Command } from "./command.ts";
import { containerVerb } from "./each.ts";

export const unpauseCommand: Command = containerVerb({ about: "Let frozen containers go on", verb: "unpause" });
