/** `wherry image diff`. @module */
import type { ImageComparison } from "#api/types/wherry-json.ts";
import { type Command, command } from "./command.ts";
import { one } from "./flags.ts";
import { humanSize, truncateId } from "./format/human.ts";
import { write } from "./output.ts";

export const imageDiffCommand: Command = command({
  usage: "[OPTIONS] IMAGE IMAGE",
  about: "Show how two images differ, by layer and by file",
  examples: [["image diff app:1 app:2", "what the second has anew (A), otherwise (C), or no more (D)"]],
  flags: [one("format", "text or json", { initial: "text" })],
  arity: [2, 2],
  run: async ({ args, client, flags, io }) => {
    const comparison = await client.json<ImageComparison>("GET", "/wherry/images/diff", { query: { a: args[0]!, b: args[1]! }, signal: io.gone });
    await write(io.stdout, flags.text("format") === "json" ? `${JSON.stringify(comparison)}\n` : describe(comparison, [args[0]!, args[1]!]));
    return 0;
  },
});

const letters = { add: "A", modify: "C", delete: "D" } as const;

/** Layers that only one has, then files, then sums. Wasted is what a layer holds and a later one replaces or takes away. */
export function describe({ shared, layers, files }: ImageComparison, names: readonly [string, string]): string {
  const lines = [`= ${shared} shared layer${shared === 1 ? "" : "s"}, ${humanSize(total(layers[0].slice(0, shared), "size"))}`];
  for (const [i, sign] of ["-", "+"].entries())
    for (const { diffId, size, wasted } of layers[i]!.slice(shared))
      lines.push(`${sign} ${truncateId(diffId)} ${humanSize(size)}${wasted === 0 ? "" : `, ${humanSize(wasted)} wasted`}`);
  for (const { kind, path, sizes } of files) {
    const [before, after] = sizes;
    const size = kind === "modify" && before !== after ? `${humanSize(before ?? 0)} → ${humanSize(after ?? 0)}` : humanSize(after ?? before ?? 0);
    lines.push(`${letters[kind]} ${path} ${size}`);
  }
  for (const [i, name] of names.entries()) lines.push(`${name}: ${humanSize(total(layers[i]!, "size"))}, ${humanSize(total(layers[i]!, "wasted"))} wasted`);
  return lines.map((line) => `${line}\n`).join("");
}

function total(layers: ImageComparison["layers"][number], key: "size" | "wasted"): number {
  return layers.reduce((sum, layer) => sum + layer[key], 0);
}
