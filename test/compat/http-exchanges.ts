/**
 * Reads both directions of one HTTP/1.1 connection as they pass by, and says what was answered to what. It changes nothing and waits for nothing: what it cannot
 * follow (a request that is no HTTP, a connection that has become a stream) it leaves alone.
 * @module
 * @see https://www.rfc-editor.org/rfc/rfc9112
 */

/** A request and the reply that has come to it. */
export interface Exchange {
  readonly method: string;
  /** Path and query as they were sent. */
  readonly target: string;
  readonly status: number;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
}

/** Told as a reply comes in. `chunk` is a part of the body, without HTTP's own framing. */
export interface ExchangeListener {
  begin(exchange: Exchange): void;
  chunk(exchange: Exchange, data: Buffer): void;
  end(exchange: Exchange): void;
}

type Rest = { readonly kind: "length"; left: number } | { readonly kind: "chunked" } | { readonly kind: "until-close" };

interface Head {
  readonly first: readonly string[];
  readonly headers: Readonly<Record<string, string>>;
}

const maxHeadBytes = 256 * 1024;

/** One direction: heads and bodies by turns. */
class Direction {
  #buffer: Buffer = Buffer.alloc(0);
  #rest: Rest | undefined;
  #over = false;
  readonly #onHead: (head: Head) => Rest | "none" | "stream";
  readonly #onData: (data: Buffer) => void;
  readonly #onEnd: () => void;

  constructor(onHead: (head: Head) => Rest | "none" | "stream", onData: (data: Buffer) => void, onEnd: () => void) {
    this.#onHead = onHead;
    this.#onData = onData;
    this.#onEnd = onEnd;
  }

  /** The rest is not HTTP, or nobody can tell. */
  leave(): void {
    this.#over = true;
    this.#buffer = Buffer.alloc(0);
  }

  push(data: Buffer): void {
    if (this.#over) return;
    this.#buffer = this.#buffer.length === 0 ? data : Buffer.concat([this.#buffer, data]);
    while (!this.#over && this.#step());
  }

  /** The connection has ended: so has a body without a length. */
  close(): void {
    if (!this.#over && this.#rest?.kind === "until-close") this.#onEnd();
    this.leave();
  }

  /** Consumes something; false when more must come first. */
  #step(): boolean {
    if (this.#rest === undefined) return this.#head();
    if (this.#rest.kind === "chunked") return this.#chunk();
    if (this.#buffer.length === 0) return false;
    if (this.#rest.kind === "until-close") {
      this.#onData(this.#take(this.#buffer.length));
      return false;
    }
    const data = this.#take(Math.min(this.#rest.left, this.#buffer.length));
    this.#rest.left -= data.length;
    this.#onData(data);
    if (this.#rest.left === 0) this.#finish();
    return true;
  }

  #head(): boolean {
    const end = this.#buffer.indexOf("\r\n\r\n");
    if (end < 0) {
      if (this.#buffer.length > maxHeadBytes) this.leave();
      return false;
    }
    const [first = "", ...lines] = this.#take(end + 4)
      .toString("latin1")
      .trimStart()
      .split("\r\n");
    const headers: Record<string, string> = {};
    for (const line of lines) {
      const at = line.indexOf(":");
      if (at > 0) headers[line.slice(0, at).toLowerCase()] = line.slice(at + 1).trim();
    }
    const rest = this.#onHead({ first: first.split(" "), headers });
    if (rest === "stream") this.leave();
    else if (rest === "none" || (rest.kind === "length" && rest.left === 0)) this.#onEnd();
    else this.#rest = rest;
    return true;
  }

  #chunk(): boolean {
    const end = this.#buffer.indexOf("\r\n");
    if (end < 0) return false;
    const size = Number.parseInt(this.#buffer.toString("latin1", 0, end), 16);
    if (!(size >= 0)) {
      this.leave();
      return false;
    }
    if (size === 0) {
      // Trailers are not used here: an empty line follows.
      if (this.#buffer.length < end + 4) return false;
      this.#take(end + 4);
      this.#finish();
      return true;
    }
    if (this.#buffer.length < end + 2 + size + 2) return false;
    this.#take(end + 2);
    this.#onData(this.#take(size));
    this.#take(2);
    return true;
  }

  #finish(): void {
    this.#rest = undefined;
    this.#onEnd();
  }

  #take(bytes: number): Buffer {
    const taken = this.#buffer.subarray(0, bytes);
    this.#buffer = this.#buffer.subarray(bytes);
    return taken;
  }
}

function bodyOf(headers: Readonly<Record<string, string>>): Rest | undefined {
  if (/\bchunked\b/i.test(headers["transfer-encoding"] ?? "")) return { kind: "chunked" };
  const length = headers["content-length"];
  return length !== undefined && /^\d+$/.test(length) ? { kind: "length", left: Number(length) } : undefined;
}

/** Follows one connection. */
export class ExchangeReader {
  readonly #asked: { readonly method: string; readonly target: string }[] = [];
  readonly #requests: Direction;
  readonly #replies: Direction;
  #current: Exchange | undefined;

  constructor(listener: ExchangeListener) {
    this.#requests = new Direction(
      ({ first: [method = "", target = "", version = ""], headers }) => {
        if (!/^HTTP\/1\.[01]$/.test(version)) return "stream";
        this.#asked.push({ method, target });
        return bodyOf(headers) ?? "none";
      },
      () => undefined,
      () => undefined,
    );
    this.#replies = new Direction(
      ({ first: [, code = ""], headers }) => {
        const status = Number(code);
        if (status === 100) return "none";
        const asked = this.#asked.shift();
        // An answer to what was no request, or a connection that leaves HTTP.
        if (asked === undefined || status === 101) return "stream";
        this.#current = { ...asked, status, headers };
        listener.begin(this.#current);
        if (asked.method === "HEAD" || status === 204 || status === 304) return "none";
        const rest = bodyOf(headers);
        if (rest === undefined && /raw-stream|multiplexed-stream/.test(headers["content-type"] ?? "")) return "stream";
        return rest ?? { kind: "until-close" };
      },
      (data) => {
        if (this.#current !== undefined) listener.chunk(this.#current, data);
      },
      () => {
        if (this.#current !== undefined) listener.end(this.#current);
        this.#current = undefined;
      },
    );
  }

  fromClient(data: Buffer): void {
    this.#requests.push(data);
  }

  fromServer(data: Buffer): void {
    this.#replies.push(data);
  }

  serverEnded(): void {
    this.#replies.close();
  }
}
