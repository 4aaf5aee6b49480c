/**
 * What an archive says of one member, whatever dialect it said it in.
 * @module
 * @see https://www.gnu.org/software/tar/manual/html_node/Standard.html
 * @see https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html
 */
import type { ByteString } from "../bytes.ts";

export type TarType = "file" | "dir" | "symlink" | "link" | "char" | "block" | "fifo";

/** A run of data in a sparse file. Bytes. */
export interface Extent {
  readonly offset: number;
  readonly length: number;
}

export interface Xattr {
  readonly name: string;
  readonly value: Uint8Array;
}

export interface TarEntry {
  /** As the archive spells it: perhaps absolute, with `./`, or with a slash at the end of a directory. */
  readonly name: ByteString;
  readonly type: TarType;
  /** Target of a symlink, or the name of the earlier member that a hard link points to. */
  readonly linkname: ByteString;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Length of the file, bytes; 0 for what is no file. */
  readonly size: number;
  /** Length of its data in the archive: less than `size` when it is sparse. */
  readonly storedSize: number;
  /** Where that data begins in the archive, bytes. */
  readonly dataOffset: number;
  readonly mtimeNs: bigint;
  readonly major: number;
  readonly minor: number;
  readonly xattrs: readonly Xattr[];
  /** Where the stored data belongs, in order; undefined = it is the whole file. */
  readonly sparse: readonly Extent[] | undefined;
}

export const blockSize = 512;

/** Bytes of padding after `size` bytes of data. */
export function paddingAfter(size: number): number {
  return (blockSize - (size % blockSize)) % blockSize;
}
