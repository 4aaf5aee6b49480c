/** The root filesystem as the planner needs it. Structurally the same as unionfs `RootMount` (runtime may not import unionfs). @module */
import type { IdMappings } from "#core/id-mappings.ts";
import type { LayerImage } from "#linux/layer-image.ts";

export type RootMountData =
  | {
      readonly kind: "overlay";
      readonly lower: readonly string[];
      readonly images?: readonly (LayerImage | undefined)[];
      readonly links: readonly string[];
      readonly linkDir: string;
      readonly upper?: string;
      readonly work?: string;
      readonly options: readonly string[];
      readonly attachAt?: string;
    }
  | {
      readonly kind: "bind";
      readonly source: string;
      readonly readonly: boolean;
      /** "disk", or of which user namespace the ids are: owners are what they are on disk (the caller has seen to them). Default: root's files on disk are the container's root's. */
      readonly owners?: "disk" | IdMappings;
    }
  | {
      readonly kind: "fuse";
      readonly argv: readonly string[];
      readonly mountpoint: string;
      readonly readonly: boolean;
      readonly directories: readonly string[];
    }
  | {
      readonly kind: "fs";
      readonly fstype: string;
      readonly source: string;
      readonly options: readonly string[];
      readonly readonly: boolean;
      readonly loop?: true;
      readonly owners?: IdMappings;
    };
