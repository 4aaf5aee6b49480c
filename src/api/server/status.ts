/** Errors as HTTP: one table, checked at compile time against the closed set of codes. @module */
import { EngineError, type ErrorCode } from "#core/errors.ts";
import type { ApiResponse, ErrorBody } from "#api/types/transport.ts";

const statusOf = {
  "not-found": 404,
  conflict: 409,
  "not-modified": 304,
  invalid: 400,
  unsupported: 501,
  denied: 403,
  unauthorized: 401,
  unavailable: 503,
  // The caller has gone: nobody reads this one.
  cancelled: 499,
  kernel: 500,
  storage: 500,
  corrupt: 500,
  internal: 500,
} as const satisfies Record<ErrorCode, number>;

/** The reply for anything that a handler threw. Only an EngineError's words go out; other errors are our own fault and get logged by the caller. */
export function errorResponse(error: unknown): ApiResponse {
  if (!(error instanceof EngineError))
    return { kind: "json", status: 500, value: { message: `internal error: ${messageOf(error)}`, code: "internal" } satisfies ErrorBody };
  const status = error.code === "kernel" && error.details.exitCode !== undefined ? 400 : statusOf[error.code];
  if (status === 304) return { kind: "empty", status };
  const body: ErrorBody = {
    message: error.message,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    code: error.code,
    ...(error.details.exitCode === undefined ? {} : { exitCode: error.details.exitCode }),
  };
  return { kind: "json", status, value: body };
}

/** One line about an unknown error. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Damaged data that came in with a request is the request's fault (400), not the store's. */
export function blameRequest(error: unknown): unknown {
  if (!(error instanceof EngineError) || error.code !== "corrupt") return error;
  return new EngineError("invalid", error.message, { cause: error, details: error.details, ...(error.hint === undefined ? {} : { hint: error.hint }) });
}
