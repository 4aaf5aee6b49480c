/** A failed file operation in the words that docker's users know. @module */

const words: Readonly<Record<string, string>> = {
  ENOENT: "no such file or directory",
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  EISDIR: "is a directory",
  ENOTDIR: "not a directory",
  EEXIST: "file exists",
  ENOSPC: "no space left on device",
  EROFS: "read-only file system",
  ELOOP: "too many levels of symbolic links",
  ENAMETOOLONG: "file name too long",
};

/** `open /x: no such file or directory`; errors without an errno pass through. */
export function explainFileError(error: unknown, verb: string, path: string): Error {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === undefined) return error instanceof Error ? error : new Error(String(error));
  return new Error(`${verb} ${path}: ${words[code] ?? code}`, { cause: error });
}
