/** Sessions: connections on which the engine is the caller, and the client serves what a build needs of it. @module */
import type { IncomingHttpHeaders } from "node:http";
import { type ClientHttp2Session, connect } from "node:http2";
import type { Duplex } from "node:stream";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { EngineError } from "#core/errors.ts";
import { expandLists } from "./metadata.ts";

/** How long a build waits for the session that it names: the two come on connections of their own. */
const waitMs = 10_000;
/** Of one message. Clients send pieces of files in 32 KiB. */
const maxMessageBytes = 16 * 1024 * 1024;

export interface SessionHead {
  readonly id: string;
  /** How the client calls what it serves files of. */
  readonly sharedKey: string;
  /** `/package.Service/Method`, lower case. */
  readonly methods: ReadonlySet<string>;
}

/** One client's session. */
export class Session {
  readonly sharedKey: string;
  /** Aborted when the client has gone. */
  readonly gone: AbortSignal;
  readonly #methods: ReadonlySet<string>;
  readonly #transport: Transport;
  readonly #http: ClientHttp2Session;

  constructor({ sharedKey, methods }: SessionHead, socket: Duplex) {
    this.sharedKey = sharedKey;
    this.#methods = methods;
    const gone = new AbortController();
    this.gone = gone.signal;
    const authority = "http://session";
    const http = connect(authority, { createConnection: () => socket });
    this.#http = http;
    // Calls that are under way fail with it; between calls nobody needs to know.
    http.on("error", () => http.destroy());
    http.once("close", () => {
      gone.abort(new EngineError("cancelled", "the client has gone"));
      socket.destroy();
    });
    this.#transport = createGrpcTransport({
      baseUrl: authority,
      readMaxBytes: maxMessageBytes,
      acceptCompression: [],
      sessionManager: {
        authority,
        request: async (method, path, headers, options) => http.request({ ...expandLists(headers), ":method": method, ":path": path }, options),
        notifyResponseByteRead: () => undefined,
      },
    });
  }

  client<T extends DescService>(service: T): Client<T> {
    return createClient(service, this.#transport);
  }

  /** True when the client has said that it serves it. */
  serves(service: DescService, method: string): boolean {
    return this.#methods.has(`/${service.typeName}/${method}`.toLowerCase());
  }

  close(): void {
    this.#http.destroy();
  }
}

export function sessionHead(headers: IncomingHttpHeaders): SessionHead {
  const one = (name: string) => [headers[name] ?? ""].flat()[0]!; // flat() of a list with one element
  const id = one("x-docker-expose-session-uuid");
  if (id === "") throw new EngineError("invalid", "a session needs an X-Docker-Expose-Session-Uuid header");
  const methods = [headers["x-docker-expose-session-grpc-method"] ?? []].flat().flatMap((text) => text.split(","));
  return { id, sharedKey: one("x-docker-expose-session-sharedkey"), methods: new Set(methods.map((text) => text.trim().toLowerCase())) };
}

/** Sessions by id. */
export class Sessions {
  readonly #open = new Map<string, Session>();
  readonly #waiting = new Map<string, Set<(session: Session) => void>>();

  /** @throws EngineError "conflict" */
  refuseKnown({ id }: SessionHead): void {
    if (this.#open.has(id)) throw new EngineError("conflict", `session ${id} already exists`);
  }

  add(head: SessionHead, socket: Duplex): Session {
    this.refuseKnown(head);
    const session = new Session(head, socket);
    this.#open.set(head.id, session);
    session.gone.addEventListener("abort", () => this.#open.delete(head.id), { once: true });
    for (const tell of this.#waiting.get(head.id) ?? []) tell(session);
    this.#waiting.delete(head.id);
    return session;
  }

  /** @throws EngineError "not-found" when it does not come, "cancelled" */
  async get(id: string, signal: AbortSignal): Promise<Session> {
    const known = this.#open.get(id);
    if (known !== undefined) return known;
    if (signal.aborted) throw new EngineError("cancelled", "the build has ended", { cause: signal.reason });
    return new Promise((resolve, reject) => {
      const waiting = this.#waiting.get(id) ?? new Set();
      this.#waiting.set(id, waiting);
      const giveUp = (error: EngineError) => {
        settle();
        waiting.delete(tell);
        if (waiting.size === 0) this.#waiting.delete(id);
        reject(error);
      };
      const late = setTimeout(() => giveUp(new EngineError("not-found", `no active session for ${id}: the client has not opened it, or has gone`)), waitMs);
      const cancel = () => giveUp(new EngineError("cancelled", "the build has ended", { cause: signal.reason }));
      signal.addEventListener("abort", cancel, { once: true });
      const settle = () => {
        clearTimeout(late);
        signal.removeEventListener("abort", cancel);
      };
      const tell = (session: Session) => {
        settle();
        resolve(session);
      };
      waiting.add(tell);
    });
  }

  close(): void {
    for (const session of this.#open.values()) session.close();
  }
}
