/** What somebody may have meant who wrote a word that is not known. @module */

/**
 * The known words that are nearest to `word`, upper and lower case aside: at most two, the best first. Those that fewest letters must be changed
 * for, and at most a third of them; and those that begin with `word`.
 */
export function suggest(word: string, known: readonly string[]): string[] {
  const given = word.toLowerCase();
  // The shorter the word, the less it may differ.
  const allowed = Math.max(1, Math.floor(given.length / 3));
  const near = known.map((name) => ({ name, distance: editDistance(given, name.toLowerCase()) }));
  const least = Math.min(allowed, ...near.map(({ distance }) => distance));
  return near
    .filter(({ name, distance }) => distance === least || (given.length > 2 && name.toLowerCase().startsWith(given)))
    .sort((a, b) => a.distance - b.distance || (a.name < b.name ? -1 : 1))
    .slice(0, 2)
    .map(({ name }) => name);
}

/** Insertions, deletions, replacements and swaps of neighbours (optimal string alignment). */
function editDistance(a: string, b: string): number {
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
