/** `wherry pause`. @module */
import type { Command } from "./command.ts";
import { containerVerb } from "./each.ts";

export const pauseCommand: Command = containerVerb({ about: "Freeze containers: their processes get no CPU until `unpause`", verb: "pause" });
