/**
 * What is said of an archive when it has been read: which files somebody changed meanwhile. A tar's member has the length that its header says, so such a file is cut or padded; the archive itself
 * has no place to say so. A trailer of HTTP has: who does not know it reads past it.
 * @module
 */
import type { Headers } from "./transport.ts";

const trailer = "X-Wherry-Changed";
/** Node takes no more than 16 KiB of headers and trailers. */
const maxBytes = 8 * 1024;

/** Collects what is told while an archive is made. */
export class ArchiveNotes {
  readonly #told: string[] = [];
  #bytes = 0;
  #more = 0;

  /** Bound, to be handed on. */
  readonly add = (message: string): void => {
    this.#bytes += Buffer.byteLength(JSON.stringify(message)) + 1;
    if (this.#bytes > maxBytes) this.#more++;
    else this.#told.push(message);
  };

  /** Once the archive has ended. */
  trailers(): Headers {
    const all = this.#more === 0 ? this.#told : [...this.#told, `and ${this.#more} more: the daemon's log has them`];
    return all.length === 0 ? {} : { [trailer]: Buffer.from(JSON.stringify(all)).toString("base64") };
  }
}

/** What a reply's trailers say of its archive. */
export function archiveNotes(trailers: Headers): readonly string[] {
  const text = trailers[trailer.toLowerCase()];
  if (text === undefined) return [];
  const list: unknown = JSON.parse(Buffer.from(text, "base64").toString("utf8"));
  return Array.isArray(list) ? list.filter((line) => typeof line === "string") : [];
}
