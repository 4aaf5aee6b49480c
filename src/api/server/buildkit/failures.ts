/** Errors for gRPC's clients. @module */
import { Code, ConnectError } from "@connectrpc/connect";
import { EngineError } from "#core/errors.ts";
import { type Log, logFault } from "../router.ts";

/** In BuildKit's words where it has words. Only an EngineError's go out as they are; other errors are our own fault and are logged. */
export function failureOf(error: unknown, what: string, log: Log): ConnectError {
  if (error instanceof ConnectError) return error;
  logFault(error, what, log);
  if (!(error instanceof EngineError)) return new ConnectError(`internal error: ${error instanceof Error ? error.message : String(error)}`, Code.Internal);
  return new ConnectError(failureText(error), codeOf(error));
}

function failureText(error: EngineError): string {
  const text = inBuildKitsWords(error.message);
  return text === error.message && error.hint !== undefined ? `${text} (${error.hint})` : text;
}

/** The classic builder and BuildKit say in different words that a command has failed. */
export function inBuildKitsWords(message: string): string {
  const [, command, code] = /^The command '(.*)' returned a non-zero code: (\d+)$/s.exec(message) ?? [];
  return command === undefined ? message : `process ${JSON.stringify(command)} did not complete successfully: exit code: ${code}`;
}

function codeOf({ code }: EngineError): Code {
  switch (code) {
    case "cancelled":
      return Code.Canceled;
    case "unsupported":
      return Code.Unimplemented;
    case "not-found":
      return Code.NotFound;
    case "conflict":
      return Code.AlreadyExists;
    case "unauthorized":
      return Code.Unauthenticated;
    case "denied":
      return Code.PermissionDenied;
    default:
      return Code.Unknown;
  }
}
