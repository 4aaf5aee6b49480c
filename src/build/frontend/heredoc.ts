/** `<<NAME` in RUN, COPY and ADD. @module @see https://docs.docker.com/reference/dockerfile/#here-documents */
import { expandWords } from "./words.ts";

export interface Heredoc {
  readonly name: string;
  /** Variables in it are replaced (by the shell in RUN): its name was not quoted. */
  readonly expand: boolean;
  /** `<<-`: tabs at the beginnings of lines go. */
  readonly chomp: boolean;
  /** In front of `<<`; "" = none. */
  readonly descriptor: string;
  /** Each line with its line feed. Tabs are still there: see {@link heredocText}. */
  readonly content: string;
}

/** What stands in one word, if it is the beginning of a heredoc. */
function parseHeredoc(word: string): Omit<Heredoc, "content"> | undefined {
  const match = /^(\d*)<<(-?)([^<]+)$/s.exec(word);
  if (match === null) return undefined;
  const [, descriptor = "", dash, rest = ""] = match;
  const words = (keepQuotes: boolean) => expandWords(rest, () => undefined, { escape: "\\", keepUnset: true, keepQuotes, keepEscapes: keepQuotes });
  const [plain, raw] = [words(false), words(true)];
  if (plain.length !== 1 || raw.length !== 1) return undefined;
  return { name: plain[0]!, expand: plain[0] === raw[0], chomp: dash === "-", descriptor };
}

/** The heredocs that a line begins, in order. A line whose quotes do not match has none: it is not ours to judge. */
export function heredocsOf(line: string, escapeWith: string): Omit<Heredoc, "content">[] {
  if (!line.includes("<<")) return [];
  let words: string[];
  try {
    words = expandWords(line, () => undefined, { escape: escapeWith, keepQuotes: true, keepEscapes: true, keepUnset: true });
  } catch {
    // Unmatched quotes: a shell's business, e.g. `RUN echo it's <<fine`.
    return [];
  }
  return words.flatMap((word) => parseHeredoc(word) ?? []);
}

/** The content as the file or program gets it. */
export function heredocText({ chomp, content }: Pick<Heredoc, "chomp" | "content">): string {
  return chomp ? content.replace(/^\t+/gm, "") : content;
}
