/** Go's os.FileMode, which keeps type and permissions in other bits than st_mode. @module @see https://pkg.go.dev/io/fs#FileMode */

export type FileType = "file" | "dir" | "symlink" | "char" | "block" | "fifo" | "socket";

const goTypes = {
  file: 0,
  dir: 2 ** 31,
  symlink: 2 ** 27,
  char: 2 ** 26 + 2 ** 21,
  block: 2 ** 26,
  fifo: 2 ** 25,
  socket: 2 ** 24,
} as const satisfies Record<FileType, number>;

const [setuid, setgid, sticky] = [2 ** 23, 2 ** 22, 2 ** 20];
const typeBits = 2 ** 31 + 2 ** 27 + 2 ** 26 + 2 ** 25 + 2 ** 24 + 2 ** 21;

export function goFileMode({ type, mode }: { readonly type: FileType /** Permission bits with setuid, setgid and sticky. */; readonly mode: number }): number {
  return goTypes[type] + (mode & 0o4000 ? setuid : 0) + (mode & 0o2000 ? setgid : 0) + (mode & 0o1000 ? sticky : 0) + (mode & 0o777);
}

/** undefined: of a type that no file of ours has. */
export function fromGoFileMode(bits: number): { readonly type: FileType; readonly mode: number } | undefined {
  const kind = (bits & typeBits) >>> 0;
  const type = (Object.keys(goTypes) as FileType[]).find((name) => goTypes[name] === kind); // its keys are those types
  if (type === undefined) return undefined;
  return { type, mode: (bits & 0o777) | (bits & setuid ? 0o4000 : 0) | (bits & setgid ? 0o2000 : 0) | (bits & sticky ? 0o1000 : 0) };
}
