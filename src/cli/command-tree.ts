/** How commands are named: a tree of words. @module */
import type { Command } from "./command.ts";

export interface Entry {
  readonly about: string;
  /** Works, but is left out of lists. */
  readonly hidden?: boolean;
  readonly load?: () => Promise<Command>;
  /** Subcommands: then there is no `load`. */
  readonly sub?: Readonly<Record<string, Entry>>;
}

export type Found =
  | { readonly kind: "command"; readonly path: string; readonly entry: Entry; readonly rest: readonly string[] }
  | { readonly kind: "group"; readonly path: string; readonly entry: Entry; readonly rest: readonly string[] }
  | { readonly kind: "unknown"; readonly path: string; readonly word: string; readonly siblings: readonly string[] };
