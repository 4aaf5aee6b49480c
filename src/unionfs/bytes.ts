/**
 * Names of files are bytes. Inside unionfs they are held as strings with one character for one byte ("binary" strings, latin1): they compare in
 * byte order, split, and serve as keys, and nothing is lost of a name that is not UTF-8.
 * @module
 */
import { EngineError } from "#core/errors.ts";

/** One character for one byte. */
export type ByteString = string;

export function toByteString(bytes: Uint8Array): ByteString {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

export function toBytes(text: ByteString): Buffer {
  return Buffer.from(text, "latin1");
}

/** For people: UTF-8 where it is, control characters and other bytes as \xNN. */
export function printable(name: ByteString | Uint8Array): string {
  const bytes = typeof name === "string" ? toBytes(name) : Buffer.from(name);
  const text = bytes.toString("utf8");
  const exact = Buffer.from(text, "utf8").equals(bytes) ? text : bytes.toString("latin1").replace(/[\x80-\xff]/g, hex);
  return (exact.length > 300 ? `${exact.slice(0, 300)}…` : exact).replace(/[\x00-\x1f\x7f]/g, hex);
}

function hex(character: string): string {
  return `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
}

/** Directory part of a path without leading or trailing slash; "" for a name at the top. */
export function parentOf(path: ByteString): ByteString {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "" : path.slice(0, slash);
}

export function baseOf(path: ByteString): ByteString {
  return path.slice(path.lastIndexOf("/") + 1);
}

export function joinPath(directory: ByteString, name: ByteString): ByteString {
  return directory === "" ? name : name === "" ? directory : `${directory}/${name}`;
}

/** Orders paths as a walk does: a directory before what is in it, siblings in byte order. */
export function compareWalkOrder(a: ByteString, b: ByteString): number {
  const x = a.replaceAll("/", "\0");
  const y = b.replaceAll("/", "\0");
  return x < y ? -1 : x > y ? 1 : 0;
}

/** The error for an archive whose bytes are not what the format says. */
export function corrupt(what: string, cause?: unknown): EngineError {
  return new EngineError("corrupt", what, cause === undefined ? {} : { cause });
}
