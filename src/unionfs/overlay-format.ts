/**
 * How overlayfs writes down on a layer's directory what is gone from the layers below: a whiteout is a character device 0:0 in the name's place, and a
 * directory with `trusted.overlay.opaque=y` hides the directories of its name.
 * @module
 * @see Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"
 */
import type { TreeStat } from "#linux/file-tree.ts";

export const opaqueXattr = "trusted.overlay.opaque";

/** Attributes that are overlay's own book-keeping: never taken from an archive (they could redirect a lookup), never written to one. */
export function isOverlayXattr(name: string): boolean {
  return name.startsWith("trusted.overlay.") || name.startsWith("user.overlay.");
}

export function isWhiteout(entry: Pick<TreeStat, "type" | "major" | "minor">): boolean {
  return entry.type === "char" && entry.major === 0 && entry.minor === 0;
}

export function isOpaque(entry: Pick<TreeStat, "type" | "xattrs">): boolean {
  return entry.type === "dir" && entry.xattrs.some(({ name, value }) => name === opaqueXattr && value.length === 1 && value[0] === 0x79);
}

/** A file that fuse-overlayfs puts into opaque directories besides the attribute. No layer can have a file of this name: in archives it says the same. */
export const opaqueMarker = ".wh..wh..opq";
