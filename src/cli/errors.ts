/** How a command ends other than well, and how that reads. @module */
import { ApiError } from "#api/client/mod.ts";
import { EngineError } from "#core/errors.ts";
import type { CliIo } from "./io.ts";

/** Ends the command with this exit code; what there was to say has been said when `message` is empty. */
export class ExitError extends Error {
  readonly code: number;
  constructor(code: number, message = "") {
    super(message);
    this.name = "ExitError";
    this.code = code;
  }
}

/** docker's words for anything that a command threw. */
export function errorText(error: unknown): string {
  if (error instanceof ApiError) return `Error response from daemon: ${error.message}`;
  // Our own mistake: whoever reports it needs to see where.
  if (error instanceof TypeError || error instanceof ReferenceError) return error.stack ?? error.message;
  return error instanceof Error ? error.message : String(error);
}

/** The line that says what to do, if the error knows it. */
export function hintOf(error: unknown): string | undefined {
  if (error instanceof ApiError || error instanceof EngineError) return error.hint;
  return undefined;
}

/** Colour only for a terminal. */
export function red(io: CliIo, text: string): string {
  return io.isTty.stderr && io.env["NO_COLOR"] === undefined ? `\u001b[31m${text}\u001b[0m` : text;
}

/** Writes an error and its hint; returns the exit code that it stands for. */
export function report(io: CliIo, error: unknown): number {
  const text = errorText(error);
  if (text !== "") io.stderr.write(`${error instanceof ExitError ? text : red(io, text)}\n`);
  const hint = hintOf(error);
  if (hint !== undefined) io.stderr.write(`Hint: ${hint}\n`);
  if (error instanceof ExitError) return error.code;
  return 1;
}

/** Whether the API said so. */
export function isStatus(error: unknown, status: number): error is ApiError {
  return error instanceof ApiError && error.status === status;
}
