/** Names with several values in a request's metadata. gRPC sends a line for each; Headers would join them, and a value may hold a comma. @module */

const lists = ["include-patterns", "exclude-patterns", "followpaths"] as const;

/** A list as one value, until {@link expandLists} makes lines of it. */
export function listValue(values: readonly string[]): string {
  return encodeURIComponent(JSON.stringify(values));
}

/** The headers as they go out. What is not ASCII is query-escaped, and a further name says so, as BuildKit's clients expect. */
export function expandLists(headers: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const sent: Record<string, unknown> = { ...headers };
  for (const name of lists) {
    const value = headers[name];
    if (typeof value !== "string") continue;
    const values = JSON.parse(decodeURIComponent(value)) as string[]; // listValue's
    const plain = values.every((text) => /^[\x20-\x7e]*$/.test(text));
    sent[name] = plain ? values : values.map((text) => encodeURIComponent(text));
    if (!plain) sent[`${name}-encoded`] = "1";
  }
  return sent;
}
