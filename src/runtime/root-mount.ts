/** The root filesystem as the planner needs it. Structurally the same as unionfs `RootMount` (runtime may not import unionfs). @module */
export type RootMountData =
  | {
      readonly kind: "overlay";
      readonly lower: readonly string[];
      readonly links: readonly string[];
      readonly linkDir: string;
      readonly upper?: string;
      readonly work?: string;
      readonly options: readonly string[];
    }
  | { readonly kind: "bind"; readonly source: string; readonly readonly: boolean }
  | { readonly kind: "fs"; readonly fstype: string; readonly source: string; readonly options: readonly string[]; readonly readonly: boolean };
