/** Order in which numbers inside names count as numbers: net2 before net10. @module */

/** For sort. Other characters compare by their code. */
export function naturalOrder(a: string, b: string): number {
  const left = a.match(/\d+|\D+/g) ?? [];
  const right = b.match(/\d+|\D+/g) ?? [];
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const [x, y] = [left[i]!, right[i]!];
    if (x === y) continue;
    const numbers = /^\d/.test(x) && /^\d/.test(y) ? Number(x) - Number(y) : 0;
    return numbers !== 0 ? numbers : x < y ? -1 : 1;
  }
  return left.length - right.length;
}
