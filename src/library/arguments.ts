/** What calls of the library have in common. @module */
import { Readable } from "node:stream";
import { isEngineError } from "#core/errors.ts";

/** As an option that may be missing, and not undefined. */
export function abort(signal: AbortSignal | undefined): { readonly signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

/** As the API takes it: seconds since 1970 with a fraction. */
export function unixSeconds(date: Date | undefined): string | undefined {
  return date === undefined ? undefined : (date.getTime() / 1000).toFixed(3);
}

export function asStream(bytes: Uint8Array | AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  return bytes instanceof Uint8Array ? Readable.from([bytes], { objectMode: false }) : bytes;
}

/** Removing what is gone is no error. */
export async function unlessGone(removal: Promise<unknown>): Promise<void> {
  try {
    await removal;
  } catch (error) {
    if (!isEngineError(error, "not-found")) throw error;
  }
}
