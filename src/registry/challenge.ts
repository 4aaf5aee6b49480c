/** `WWW-Authenticate`, parsed. @module @see RFC 9110 §11.6.1 */

export interface Challenge {
  /** Lower case. */
  readonly scheme: string;
  readonly parameters: Readonly<Record<string, string>>;
}

const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const parameter = new RegExp(`^\\s*(${token})\\s*=\\s*(?:"((?:[^"\\\\]|\\\\.)*)"|(${token}))\\s*`);
const maxHeader = 16 * 1024;

/** All challenges of the header; what is malformed ends the list. */
export function parseChallenges(header: string): Challenge[] {
  const challenges: { scheme: string; parameters: Record<string, string> }[] = [];
  let rest = header.slice(0, maxHeader);
  for (;;) {
    rest = rest.replace(/^[\s,]+/, "");
    const scheme = new RegExp(`^(${token})(?:\\s+|$|,)`).exec(rest);
    if (scheme === null) return challenges;
    const current = { scheme: scheme[1]!.toLowerCase(), parameters: {} as Record<string, string> };
    challenges.push(current);
    rest = rest.slice(scheme[0].length);
    for (let match = parameter.exec(rest); match !== null; match = parameter.exec(rest)) {
      current.parameters[match[1]!.toLowerCase()] = match[2]?.replace(/\\(.)/g, "$1") ?? match[3] ?? "";
      rest = rest.slice(match[0].length);
      if (!rest.startsWith(",")) break;
      rest = rest.slice(1);
    }
  }
}
