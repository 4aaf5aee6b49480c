/** JSON text where 64-bit integers keep all their digits. @module */

const mark = "\u0001int:";
const marked = /"\\u0001int:(-?\d+)"/g;

/** As JSON.stringify, but a bigint becomes a number literal. */
export function encodeJson(value: unknown): string {
  let exact = false;
  const text = JSON.stringify(value, (_key, v: unknown) => {
    if (typeof v !== "bigint") return v;
    exact = true;
    return mark + v.toString();
  });
  return exact ? text.replace(marked, "$1") : text;
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
