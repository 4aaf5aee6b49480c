/**
 * The engine's end of a container's name server: its sockets lie in the container's network namespace, held by its monitor; here queries arrive and
 * answers leave as frames. How much the container can make us do is bounded: by credit that comes back at a limited rate.
 * @module
 * @see docs/helper-protocol.md
 */
import { connect } from "node:net";
import { F, FrameParser, frame, Writer } from "./wire.ts";

/** One DNS message in, at most one out; undefined: no answer. Never rejects. */
export type NameHandler = (message: Buffer, transport: "udp" | "tcp") => Promise<Uint8Array | undefined>;

/** Queries that the monitor may send on before it is given new credit. */
const CREDIT = 64;
/** Queries a second that credit is given back for; a flood beyond it waits in the container's own socket, or is lost there. */
const PER_SECOND = 8_000;
const REFILL_MS = 10;
/** A DNS message over TCP has a length of 16 bits; more than two waiting is not a client that reads answers. */
const MAX_PENDING_BYTES = 2 * (0xffff + 2);
/** What fits in the monitor's buffer. */
const MAX_CHUNK = 8 << 10;
const HEAD = 7;
const KIND = { datagram: 0, bytes: 1, end: 3 } as const;

/**
 * Opens the sockets at an IPv4 address (a number) and port in the network namespace of the monitor's child, if they are not open yet, and serves them until
 * the connection ends or is closed. Resolves to what closes it; undefined when there is no monitor any more.
 */
export function serveNames(
  socketPath: string,
  { address, port }: { readonly address: number; readonly port: number },
  handler: NameHandler,
): Promise<(() => void) | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ path: socketPath });
    const connection = new Connection((type, payload) => {
      if (!socket.destroyed) socket.write(frame(type, 0, payload));
    }, handler);
    const parser = new FrameParser((type, _id, payload) => {
      if (type === F.QUERY && payload.length >= HEAD) connection.query(payload);
    });
    socket.on("data", (chunk) => {
      socket.cork(); // the answers to all queries of a chunk in one write
      process.nextTick(() => socket.uncork());
      try {
        parser.push(chunk);
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
    socket.on("error", () => undefined); // followed by close: the monitor is gone, and with it whoever could ask
    socket.on("close", () => {
      connection.close();
      resolve(undefined);
    });
    socket.on("connect", () => {
      const hello = new Writer(8);
      hello.u32(address);
      hello.u32(port);
      socket.write(frame(F.HELLO_NAMES, 0, hello.done()));
      connection.open();
      resolve(() => socket.destroy());
    });
  });
}

class Connection {
  readonly #send: (type: number, payload: Uint8Array) => void;
  readonly #handler: NameHandler;
  /** What has come of a message, by stream. */
  readonly #streams = new Map<number, Buffer>();
  #tokens = PER_SECOND / 100;
  #owed = 0;
  #refilledAt = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(send: (type: number, payload: Uint8Array) => void, handler: NameHandler) {
    this.#send = send;
    this.#handler = handler;
  }

  open(): void {
    this.#refilledAt = performance.now();
    this.#credit(CREDIT);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#streams.clear();
  }

  query(payload: Buffer): void {
    const kind = payload[0];
    const who = payload.readUInt32LE(1);
    const port = payload.readUInt16LE(5);
    if (kind === KIND.end) {
      this.#streams.delete(who);
      return;
    }
    this.#owe();
    const bytes = Buffer.from(payload.subarray(HEAD)); // the parser's buffer is used again
    if (kind === KIND.datagram) void this.#answer(bytes, "udp", (answer) => this.#send(F.ANSWER, headed(KIND.datagram, who, port, answer)));
    else if (kind === KIND.bytes) this.#stream(who, bytes);
  }

  async #answer(message: Buffer, transport: "udp" | "tcp", send: (answer: Uint8Array) => void): Promise<void> {
    const answer = await this.#handler(message, transport);
    if (answer !== undefined) send(answer);
  }

  /** Messages are told apart by their lengths. */
  #stream(id: number, bytes: Buffer): void {
    let pending = Buffer.concat([this.#streams.get(id) ?? Buffer.alloc(0), bytes]);
    if (pending.length > MAX_PENDING_BYTES) {
      this.#streams.delete(id);
      this.#send(F.ANSWER, headed(KIND.end, id, 0));
      return;
    }
    while (pending.length >= 2 && pending.length >= 2 + pending.readUInt16BE(0)) {
      const end = 2 + pending.readUInt16BE(0);
      void this.#answer(pending.subarray(2, end), "tcp", (answer) => this.#sendStream(id, answer));
      pending = pending.subarray(end);
    }
    this.#streams.set(id, pending);
  }

  #sendStream(id: number, answer: Uint8Array): void {
    if (!this.#streams.has(id)) return;
    const bytes = Buffer.alloc(2 + answer.length);
    bytes.writeUInt16BE(answer.length, 0);
    bytes.set(answer, 2);
    for (let at = 0; at < bytes.length; at += MAX_CHUNK) this.#send(F.ANSWER, headed(KIND.bytes, id, 0, bytes.subarray(at, at + MAX_CHUNK)));
  }

  #credit(count: number): void {
    const w = new Writer(4);
    w.u32(count);
    this.#send(F.CREDIT, w.done());
  }

  /** A token for each query; without one its credit waits. Credit goes back in portions. */
  #owe(): void {
    this.#owed++;
    if (this.#owed >= CREDIT / 4) this.#repay();
    else this.#timer ??= setTimeout(() => this.#repay(), REFILL_MS);
  }

  #repay(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const now = performance.now();
    this.#tokens = Math.min(PER_SECOND / 10, this.#tokens + ((now - this.#refilledAt) * PER_SECOND) / 1000);
    this.#refilledAt = now;
    const count = Math.min(this.#owed, Math.floor(this.#tokens));
    this.#tokens -= count;
    this.#owed -= count;
    if (count > 0) this.#credit(count);
    if (this.#owed > 0) this.#timer = setTimeout(() => this.#repay(), REFILL_MS);
  }
}

function headed(kind: number, who: number, port: number, bytes: Uint8Array = new Uint8Array(0)): Buffer {
  const payload = Buffer.alloc(HEAD + bytes.length);
  payload[0] = kind;
  payload.writeUInt32LE(who, 1);
  payload.writeUInt16LE(port, 5);
  payload.set(bytes, HEAD);
  return payload;
}
