/** What stat(2) says of a file, as archives put it. @module */

export type FileType = "file" | "dir" | "symlink" | "fifo" | "char" | "block";

interface Kinds {
  isFile(): boolean;
  isDirectory(): boolean;
  isSymbolicLink(): boolean;
  isFIFO(): boolean;
  isCharacterDevice(): boolean;
  isBlockDevice(): boolean;
}

/** undefined for a socket, which means nothing without its listener. */
export function fileType(stat: Kinds): FileType | undefined {
  if (stat.isFile()) return "file";
  if (stat.isDirectory()) return "dir";
  if (stat.isSymbolicLink()) return "symlink";
  if (stat.isFIFO()) return "fifo";
  if (stat.isCharacterDevice()) return "char";
  return stat.isBlockDevice() ? "block" : undefined;
}

/** The numbers in glibc's dev_t. @see makedev(3) */
export function deviceNumbers(dev: bigint): { readonly major: number; readonly minor: number } {
  return { major: Number(((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xfffff000n)), minor: Number((dev & 0xffn) | ((dev >> 12n) & 0xffffff00n)) };
}
