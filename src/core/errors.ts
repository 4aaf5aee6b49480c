/**
 * The one error of the engine. Expected outcomes are returned; failed work throws this.
 * @module
 */

/** Closed set: `api/server/status.ts` maps each to an HTTP status exhaustively. */
export type ErrorCode =
  | "not-found" // 404
  | "conflict" // 409
  | "not-modified" // 304: already started, already stopped
  | "invalid" // 400: the request is wrong
  | "unsupported" // 501/400: this kernel or build lacks it; the message says what
  | "denied" // 403
  | "unauthorized" // 401
  | "unavailable" // 503
  | "cancelled" // the caller's AbortSignal
  | "kernel" // 500: a system call failed; details.errno, details.step
  | "storage" // 500: disk full, broken store
  | "corrupt" // 500 (or 400 when it came in a request): data that is not what its digest or format says
  | "internal"; // 500: our own fault

/** Extra fields of an {@link EngineError}. */
export interface ErrorDetails {
  readonly errno?: string;
  /** Docker's exit code for the CLI where one is fixed: 125, 126, 127. */
  readonly exitCode?: number;
  readonly [key: string]: unknown;
}

/** What was attempted and what answered (`message`, one line, Docker's words where Docker has words), and what to do (`hint`). */
export class EngineError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown; details?: ErrorDetails } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "EngineError";
    this.code = code;
    this.hint = options.hint;
    this.details = options.details ?? {};
  }
}

/** True when `error` is an {@link EngineError} (of that code, when one is given). */
export function isEngineError(error: unknown, code?: ErrorCode): error is EngineError {
  return error instanceof EngineError && (code === undefined || error.code === code);
}

/** The Node system error code (`ENOENT`, …) of an unknown error, if it has one. */
export function errnoOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === "string" ? code : undefined;
}
