import { EngineError, errnoOf } from "./errors.ts";

/** System errors become EngineErrors; a full disk says so. */
export function asStorageError(error: unknown, what: string): unknown {
  if (error instanceof EngineError) return error;
  const errno = errnoOf(error);
  if (errno === undefined || !/^E[A-Z0-9]+$/.test(errno)) return error;
  const reason = errno === "ENOSPC" || errno === "EDQUOT" ? "no space left on device" : errno;
  return new EngineError("storage", `${what}: ${reason}`, { cause: error, details: { errno } });
}
