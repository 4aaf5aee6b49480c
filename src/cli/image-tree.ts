/** `wherry image tree`. @module */
import type { ImageBranch } from "#api/types/wherry-json.ts";
import { type Command, command } from "./command.ts";
import { onOff, one } from "./flags.ts";
import { humanSize, truncateId } from "./format/human.ts";
import { write } from "./output.ts";

/** A layer, the images that end with it, and the layers on top of it. */
interface Twig {
  readonly chainId: string;
  readonly size: number;
  readonly images: ImageBranch[];
  readonly children: Map<string, Twig>;
}

export const imageTreeCommand: Command = command({
  usage: "[OPTIONS]",
  about: "Show which images share which layers",
  flags: [onOff("no-trunc", "Do not shorten"), one("format", "text or json", { initial: "text" })],
  arity: [0, 0],
  run: async ({ client, flags, io }) => {
    const branches = await client.json<ImageBranch[]>("GET", "/wherry/images/tree", { signal: io.gone });
    await write(io.stdout, flags.text("format") === "json" ? `${JSON.stringify(branches)}\n` : drawTree(branches, flags.on("no-trunc")));
    return 0;
  },
});

/** One line for each layer, with the images that it completes. Sizes are the layer's, and in brackets that of the whole image. */
export function drawTree(branches: readonly ImageBranch[], noTrunc: boolean): string {
  const root: Twig = { chainId: "", size: 0, images: [], children: new Map() };
  for (const branch of [...branches].sort((a, b) => (label(a, true) < label(b, true) ? -1 : 1))) {
    let at = root;
    for (const { chainId, size } of branch.layers) {
      const next = at.children.get(chainId) ?? { chainId, size, images: [], children: new Map() };
      at.children.set(chainId, next);
      at = next;
    }
    at.images.push(branch);
  }
  const lines = root.images.map((image) => `(no layers) ${label(image, noTrunc)}`);
  draw(root, "", noTrunc, lines);
  return lines.map((line) => `${line}\n`).join("");
}

function draw(twig: Twig, indent: string, noTrunc: boolean, lines: string[]): void {
  const children = [...twig.children.values()];
  children.forEach((child, i) => {
    const last = i === children.length - 1;
    const images = child.images.map((image) => `${label(image, noTrunc)} [${humanSize(image.layers.reduce((sum, { size }) => sum + size, 0))}]`).join(", ");
    lines.push(
      `${indent}${last ? "└─" : "├─"} ${noTrunc ? child.chainId : truncateId(child.chainId)} ${humanSize(child.size)}${images === "" ? "" : `  ${images}`}`,
    );
    draw(child, `${indent}${last ? "   " : "│  "}`, noTrunc, lines);
  });
}

function label({ id, names }: ImageBranch, noTrunc: boolean): string {
  return names.length === 0 ? (noTrunc ? id : truncateId(id)) : names.join(", ");
}
