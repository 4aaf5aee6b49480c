import { createHash } from "node:crypto";
import type { Inputs } from "./record.ts";

/** The key of a step with these inputs. */
export function keyOf(inputs: Inputs): string {
  const hash = createHash("sha256");
  for (const name of Object.keys(inputs).sort()) hash.update(`${JSON.stringify(name)}:${JSON.stringify(inputs[name])}\n`);
  return hash.digest("hex");
}

/** Names that are shown of files that differ. */
const maxShown = 3;

/** Why a step with the inputs `now` is not the one that `before` belonged to, for people. */
export function explainMiss(before: Inputs | undefined, now: Inputs): string {
  if (before === undefined) return "no such step is in the cache";
  const names = [...new Set([...Object.keys(before), ...Object.keys(now)])].sort();
  const different = names.filter((name) => before[name] !== now[name]);
  const files = different.filter((name) => name.startsWith("file "));
  const others = different.filter((name) => !name.startsWith("file "));
  const reasons = others.map((name) => {
    if (name === "parent") return "the step before it has another result";
    return `${name} ${before[name] === undefined ? "is new" : now[name] === undefined ? "is gone" : "changed"}`;
  });
  if (files.length > 0) {
    const total = Object.keys(now).filter((name) => name.startsWith("file ")).length;
    const shown = files.slice(0, maxShown).map((name) => `${name.slice(5)}${before[name] === undefined ? " (new)" : now[name] === undefined ? " (gone)" : ""}`);
    reasons.push(`${files.length} of ${total} files changed: ${shown.join(", ")}${files.length > maxShown ? ", …" : ""}`);
  }
  // The step before is named last: what is the step's own is what one looks for.
  return reasons.sort((a, b) => Number(a.startsWith("the step before")) - Number(b.startsWith("the step before"))).join("; ") || "its layer is gone";
}
