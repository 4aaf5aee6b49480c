import type { ParseNode } from "./parse-tree.ts";

/** A tree as the lists that Docker's parser tests are written in: `(copy ["--from=a"] "x" "y")`. */
export function printNode({ command, flags, args, child }: ParseNode): string {
  const parts = [command];
  if (flags.length > 0) parts.push(`[${flags.map(quote).join(" ")}]`);
  if (child !== undefined) parts.push(printNode(child));
  parts.push(...args.map(quote));
  return `(${parts.join(" ")})`;
}

const escapes: Readonly<Record<string, string>> = { "\\": "\\\\", '"': '\\"', "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** As Go's %q. */
function quote(text: string): string {
  return `"${text.replace(/[\\"\x00-\x1f\x7f]/g, (c) => escapes[c] ?? `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`)}"`;
}
