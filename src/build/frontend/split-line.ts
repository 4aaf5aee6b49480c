/** Taking the words of an instruction apart before anything in them is replaced. @module */

/** `--flag` words at the beginning, quotes and escapes removed; `--` alone ends them. What follows is trimmed. */
export function takeFlags(text: string): { readonly flags: string[]; readonly rest: string } {
  const flags: string[] = [];
  let at = 0;
  for (;;) {
    while (at < text.length && /\s/.test(text[at]!)) at++;
    if (!text.startsWith("--", at)) return { flags, rest: text.slice(at).trim() };
    let word = "";
    let quote = "";
    for (; at < text.length && (quote !== "" || !/\s/.test(text[at]!)); at++) {
      const character = text[at]!;
      if (character === quote) quote = "";
      else if (quote === "" && (character === "'" || character === '"')) quote = character;
      else if (character === "\\") word += text[++at] ?? "";
      else word += character;
    }
    if (word === "--") return { flags, rest: text.slice(at).trim() };
    flags.push(word);
  }
}

/** Words as they are written: quotes and escapes hold them together, and stay. */
export function splitWords(text: string, escapeWith: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = "";
  for (let at = 0; at < text.length; at++) {
    const character = text[at]!;
    if (quote === "" && /\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
      continue;
    }
    word ??= "";
    if (character === escapeWith && quote !== "'") {
      // At the very end it is left out.
      if (at + 1 < text.length) word += character + text[++at];
      continue;
    }
    if (character === quote) quote = "";
    else if (quote === "" && (character === "'" || character === '"')) quote = character;
    word += character;
  }
  if (word !== undefined && word !== "") words.push(word);
  return words;
}
