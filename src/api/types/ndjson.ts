/** JSON text where 64-bit integers keep all their digits. @module */
import { randomUUID } from "node:crypto";

/** Unguessable, so that no label or environment variable can pass for a number. */
const mark = `int:${randomUUID()}:`;
const marked = new RegExp(`"${mark}(-?\\d+)"`, "g");

/** As JSON.stringify, but a bigint becomes a number literal. */
export function encodeJson(value: unknown): string {
  try {
    return JSON.stringify(value); // a replacer would make every long list several times slower
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return JSON.stringify(value, (_key, v: unknown) => (typeof v === "bigint" ? mark + v.toString() : v)).replace(marked, "$1");
  }
}

/** Values of a stream of JSON documents, one a line. Throws SyntaxError for a broken line. */
export async function* decodeLines(body: AsyncIterable<Uint8Array>): AsyncGenerator<unknown, void, undefined> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop()!; // split never gives an empty list
    for (const line of lines) if (line.trim() !== "") yield JSON.parse(line);
  }
  rest += decoder.decode();
  if (rest.trim() !== "") yield JSON.parse(rest);
}
