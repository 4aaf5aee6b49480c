/** Writes an ApiResponse to an HTTP response. @module */
import type { ServerResponse } from "node:http";
import { giveBack } from "#core/pieces.ts";
import { encodeJson } from "#api/types/ndjson.ts";
import type { ApiResponse, Headers } from "#api/types/transport.ts";

type Plain = Exclude<ApiResponse, { readonly kind: "hijack" | "upgrade" }>;

/** Names and values, one after the other: what node:http writes without looking at it for long. */
export type HeaderLines = readonly string[];

/** Resolves when the reply has been handed over, or the client has gone. Throws what a stream threw after its header. */
export async function respond(res: ServerResponse, response: Plain, common: HeaderLines): Promise<void> {
  switch (response.kind) {
    case "empty":
      res.writeHead(response.status, lines(common, response.headers, response.status === 204 || response.status === 304 ? [] : ["Content-Length", "0"]));
      res.end();
      return;
    case "json":
      return whole(
        res,
        response.status,
        "application/json",
        `${response.lasting === true ? keptText(response.value as object) : encodeJson(response.value)}\n`,
        common,
        response.headers,
      );
    case "text":
      return whole(res, response.status, response.contentType, response.text, common, response.headers);
    case "pending": {
      // `docker run` starts the container only after it has seen this header.
      res.writeHead(response.status, lines(common, undefined, ["Content-Type", "application/json"]));
      res.flushHeaders();
      res.end(`${encodeJson(await response.value)}\n`);
      return;
    }
    case "lines":
      res.writeHead(response.status, lines(common, undefined, ["Content-Type", response.contentType ?? "application/json"]));
      res.flushHeaders();
      return pump(res, encoded(response.lines, response.eager ? "\n" : "\r\n"));
    case "bytes":
      res.writeHead(response.status, lines(common, response.headers, ["Content-Type", response.contentType]));
      res.flushHeaders();
      return pump(res, response.body, response.trailers);
  }
}

const texts = new WeakMap<object, string>();

function keptText(value: object): string {
  let text = texts.get(value);
  if (text === undefined) {
    text = encodeJson(value);
    texts.set(value, text);
  }
  return text;
}

function whole(res: ServerResponse, status: number, contentType: string, text: string, common: HeaderLines, own: Headers | undefined): void {
  res.writeHead(status, lines(common, own, ["Content-Type", contentType, "Content-Length", String(Buffer.byteLength(text))]));
  res.end(text);
}

function lines(common: HeaderLines, own: Headers | undefined, more: HeaderLines): string[] {
  const list = common.concat(more);
  if (own !== undefined) for (const name of Object.keys(own)) list.push(name, own[name]!); // its own key
  return list;
}

async function* encoded(lines: AsyncIterable<unknown>, end: string): AsyncGenerator<string, void, undefined> {
  for await (const line of lines) yield encodeJson(line) + end;
}

/** False when the client is slower than we are. */
function written(res: ServerResponse, piece: Uint8Array | string): boolean {
  if (typeof piece === "string") return res.write(piece);
  return res.write(piece, (error) => {
    if (error === null || error === undefined) giveBack(piece);
  });
}

/** Keeps back-pressure, and lets go of the source when the client has gone. */
async function pump(res: ServerResponse, source: AsyncIterable<Uint8Array | string>, trailers?: () => Headers): Promise<void> {
  let giveUp = (): void => undefined;
  res.once("close", () => giveUp());
  const orGone = <T>(work: Promise<T>): Promise<T | undefined> =>
    new Promise((resolve, reject) => {
      giveUp = () => resolve(undefined);
      work.then(resolve, reject);
    });
  const iterator = source[Symbol.asyncIterator]();
  try {
    while (!res.destroyed) {
      const item = await orGone(iterator.next());
      if (!item || item.done || res.destroyed) break;
      if (!written(res, item.value)) await orGone(new Promise((resolve) => res.once("drain", resolve)));
    }
  } finally {
    const closing = iterator.return?.();
    // Not awaited when the client has gone: the source may be waiting for the next line of a silent container.
    if (res.destroyed) closing?.catch(() => undefined);
    else await closing;
  }
  if (res.destroyed) return;
  if (trailers !== undefined) res.addTrailers(trailers());
  res.end();
}
