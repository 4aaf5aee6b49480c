/** `wherry system facts`. @module */
import { type Command, command } from "./command.ts";
import { print } from "./output.ts";

export const factsCommand: Command = command({
  usage: "",
  about: "Print what this kernel can do, as JSON that `run --explain --facts FILE` reads",
  examples: [["system facts > here.json", "then, anywhere: wherry run --explain --facts here.json busybox true"]],
  arity: [0, 0],
  run: async ({ client, io }) => {
    await print(io, JSON.stringify(await client.json<unknown>("GET", "/wherry/facts", { signal: io.gone }), null, 2));
    return 0;
  },
});
