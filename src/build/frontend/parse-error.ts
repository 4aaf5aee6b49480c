import { EngineError } from "#core/errors.ts";

/** Where in a Dockerfile something stands. Lines and columns count from 1. */
export interface Position {
  /** Name of the file as the user gave it. */
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** An {@link EngineError} "invalid" in Docker's words, with `details` file, line and column and perhaps what was meant (`details.suggestion`). */
export function parseError(position: Position, message: string, suggestion?: string): EngineError {
  const text = suggestion === undefined ? message : `${message} (did you mean ${suggestion}?)`;
  return new EngineError("invalid", `dockerfile parse error on line ${position.line}: ${text}`, {
    hint: `${position.file}:${position.line}:${position.column}`,
    details: { ...position, ...(suggestion === undefined ? {} : { suggestion }) },
  });
}
