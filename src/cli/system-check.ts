/** `wherry system check`. @module */
import type { StoreProblem } from "#api/types/wherry-json.ts";
import { type Command, command } from "./command.ts";
import { onOff } from "./flags.ts";
import { print, warn } from "./output.ts";
import { renderProgress } from "./progress.ts";

export const systemCheckCommand: Command = command({
  usage: "[OPTIONS]",
  about: "Verify images and layers; find what nobody needs",
  examples: [
    ["system check", "reads every layer: digests, chains, orphans"],
    ["system check --repair", "removes what no image, container or volume needs"],
  ],
  flags: [onOff("repair", "Remove what nobody needs (what is damaged has to be loaded again)")],
  arity: [0, 0],
  run: async ({ client, flags, io }) => {
    const { body } = await client.stream("POST", "/wherry/system/check", { query: { repair: flags.on("repair") ? "1" : "0" }, signal: io.gone });
    const problems: StoreProblem[] = [];
    await renderProgress(body, {
      io,
      quiet: true,
      onAux: (aux) => problems.push(aux as StoreProblem), // what this route sends
    });
    for (const { kind, what, why, repaired } of problems) await print(io, `${repaired ? "removed" : kind}: ${what}: ${why}`);
    const left = problems.filter(({ repaired }) => !repaired);
    if (problems.length === 0) await print(io, "no problem found");
    if (left.some(({ kind }) => kind === "orphan") && !flags.on("repair")) warn(io, "wherry system check --repair removes what nobody needs");
    if (left.some(({ kind }) => kind === "damaged")) warn(io, "what is damaged has to be removed and loaded again");
    return left.length === 0 ? 0 : 1;
  },
});
