import { createHash } from "node:crypto";
import type { FilePrints, Inputs } from "./record.ts";

/** The key of a step with these inputs. */
export function keyOf(inputs: Inputs): string {
  const hash = createHash("sha256");
  for (const name of Object.keys(inputs).sort()) hash.update(`${JSON.stringify(name)}:${JSON.stringify(inputs[name])}\n`);
  return hash.digest("hex");
}

/** Stands for all of the files; their order is the caller's. */
export function digestOfPrints(prints: FilePrints): string {
  const hash = createHash("sha256");
  for (const [name, print] of prints) hash.update(`${JSON.stringify(name)}:${JSON.stringify(print)}\n`);
  return hash.digest("hex");
}

/** Names that are shown of files that differ. */
const maxShown = 3;

/** What a step is, or was, made of. `prints`: of the files among it. */
export interface Compared {
  readonly inputs: Inputs;
  readonly prints: FilePrints | undefined;
}

/** Why a step with the inputs `now` is not the one that `before` belonged to, for people. */
export function explainMiss(before: Compared | undefined, now: Compared): string {
  if (before === undefined) return "no such step is in the cache";
  const names = [...new Set([...Object.keys(before.inputs), ...Object.keys(now.inputs)])].sort();
  const reasons = names
    .filter((name) => before.inputs[name] !== now.inputs[name])
    .map((name) => {
      if (name === "parent") return "the step before it has another result";
      if (name === "files" && before.prints !== undefined && now.prints !== undefined) return explainFiles(before.prints, now.prints);
      return `${name} ${before.inputs[name] === undefined ? "is new" : now.inputs[name] === undefined ? "is gone" : "changed"}`;
    });
  // The step before is named last: what is the step's own is what one looks for.
  return reasons.sort((a, b) => Number(a.startsWith("the step before")) - Number(b.startsWith("the step before"))).join("; ") || "its layer is gone";
}

function explainFiles(before: FilePrints, now: FilePrints): string {
  const different = [...new Set([...before.keys(), ...now.keys()])].sort().filter((name) => before.get(name) !== now.get(name));
  const shown = different.slice(0, maxShown).map((name) => `${name}${before.has(name) ? (now.has(name) ? "" : " (gone)") : " (new)"}`);
  return `${different.length} of ${now.size} files changed: ${shown.join(", ")}${different.length > maxShown ? ", …" : ""}`;
}
