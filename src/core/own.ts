/** Looking a stranger's word up in a table. @module */

/** The table's own entry. `table[key]` would find "constructor" and "__proto__" as well, which every object has. */
export function own<T>(table: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}
