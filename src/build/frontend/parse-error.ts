import { EngineError } from "#core/errors.ts";

/** Where in a Dockerfile something stands. Lines and columns count from 1. */
export interface Position {
  /** Name of the file as the user gave it. */
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** An {@link EngineError} "invalid" in Docker's words, with `details` file, line and column and perhaps what was meant (`details.suggestion`). */
export function parseError(position: Position, message: string, suggestion?: string): EngineError {
  const text = suggestion === undefined ? message : `${message} (did you mean ${suggestion}?)`;
  return new EngineError("invalid", `dockerfile parse error on line ${position.line}: ${text}`, {
    hint: `${position.file}:${position.line}:${position.column}`,
    details: { ...position, ...(suggestion === undefined ? {} : { suggestion }) },
  });
}

/** The known word that a misspelt one is nearest to, unless none is near: at most a third of its letters differ. */
export function suggest(word: string, known: readonly string[]): string | undefined {
  const given = word.toLowerCase();
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(given.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(given, candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** Insertions, deletions, replacements and swaps of neighbours (optimal string alignment). */
function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 4) return Number.POSITIVE_INFINITY;
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = last[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let cost = Math.min(replace, last[j]! + 1, row[j - 1]! + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) cost = Math.min(cost, beforeLast[j - 2]! + 1);
      row.push(cost);
    }
    [beforeLast, last] = [last, row];
  }
  return last[b.length]!;
}
