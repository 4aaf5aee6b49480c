/** `--detach-keys`: `ctrl-p,ctrl-q` as bytes. @module */
import { EngineError } from "./errors.ts";

/** Ctrl-P Ctrl-Q. */
export const defaultDetachKeys: Uint8Array = Uint8Array.of(16, 17);

/** "" means the default. Throws EngineError invalid with Docker's text. */
export function parseDetachKeys(text: string): Uint8Array {
  if (text === "") return defaultDetachKeys;
  return Uint8Array.from(text.split(","), (key) => {
    if (key.length === 1 && key.charCodeAt(0) < 128) return key.charCodeAt(0);
    const control = /^ctrl-([a-zA-Z@[\\\]^_])$/.exec(key)?.[1];
    if (control === undefined) throw new EngineError("invalid", `invalid detach keys (${text.slice(0, 60)}): Unknown character: '${key}'`);
    return control.toUpperCase().charCodeAt(0) & 31;
  });
}
