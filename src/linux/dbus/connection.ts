/**
 * A connection to a D-Bus peer over a unix socket: method calls and signals, nothing else.
 * @module
 */
import { connect, type Socket } from "node:net";
import { EngineError, errnoOf } from "#core/errors.ts";
import { type DbusMessage, type DbusValue, decodeMessage, encodeMessage, MESSAGE } from "./marshal.ts";

export interface DbusCall {
  readonly destination: string;
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  readonly signature?: string;
  readonly body?: readonly DbusValue[];
}

/** How long the peer may take for an answer. */
const TIMEOUT_MS = 30_000;

/** A failed call's D-Bus error name, e.g. "org.freedesktop.systemd1.NoSuchUnit". */
export class DbusError extends Error {
  readonly dbusName: string;
  constructor(name: string, message: string) {
    super(message);
    this.name = "DbusError";
    this.dbusName = name;
  }
}

interface Pending {
  resolve(body: readonly DbusValue[]): void;
  reject(error: Error): void;
  readonly timer: NodeJS.Timeout;
}

export class DbusConnection {
  readonly #socket: Socket;
  readonly #onSignal: (message: DbusMessage) => void;
  readonly #pending = new Map<number, Pending>();
  #serial = 0;
  #rest: Buffer = Buffer.alloc(0);
  #closed = false;

  private constructor({ socket, rest }: Authenticated, onSignal: (message: DbusMessage) => void) {
    this.#socket = socket;
    this.#onSignal = onSignal;
    socket.on("data", (chunk) => this.#receive(chunk));
    socket.on("error", () => undefined); // "close" follows, and tells everybody
    socket.on("close", () => this.#end(new EngineError("unavailable", "the D-Bus connection was closed")));
    socket.unref();
    this.#receive(rest);
  }

  /** Connects and authenticates as this user. EngineError "unavailable" when nobody answers there. */
  static async open(path: string, onSignal: (message: DbusMessage) => void): Promise<DbusConnection> {
    return new DbusConnection(await authenticated(path), onSignal);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The answer's values. DbusError when the peer refuses. */
  call(call: DbusCall): Promise<readonly DbusValue[]> {
    if (this.#closed) throw new EngineError("unavailable", "the D-Bus connection was closed");
    const serial = ++this.#serial;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(serial);
        reject(new EngineError("unavailable", `${call.interface}.${call.member}: no answer within ${TIMEOUT_MS / 1000} s`));
      }, TIMEOUT_MS);
      this.#pending.set(serial, { resolve, reject, timer });
      this.#socket.ref();
      this.#socket.write(encodeMessage({ body: [], ...call, type: MESSAGE.CALL, serial }));
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    try {
      for (let next = decodeMessage(this.#rest); next !== undefined; next = decodeMessage(this.#rest)) {
        this.#rest = this.#rest.subarray(next.length);
        this.#dispatch(next.message);
      }
    } catch (error) {
      this.#end(error as Error);
      this.#socket.destroy();
    }
  }

  #dispatch(message: DbusMessage): void {
    if (message.type === MESSAGE.SIGNAL) this.#onSignal(message);
    if (message.type !== MESSAGE.RETURN && message.type !== MESSAGE.ERROR) return;
    const pending = this.#pending.get(message.replySerial ?? 0);
    if (pending === undefined) return;
    this.#pending.delete(message.replySerial ?? 0);
    clearTimeout(pending.timer);
    if (this.#pending.size === 0) this.#socket.unref();
    if (message.type === MESSAGE.RETURN) pending.resolve(message.body);
    else pending.reject(new DbusError(message.error ?? "", String(message.body[0] ?? message.error)));
  }

  #end(error: Error): void {
    this.#closed = true;
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#pending.clear();
  }
}

interface Authenticated {
  readonly socket: Socket;
  /** Messages that came with the answer. */
  readonly rest: Buffer;
}

/** The SASL exchange: EXTERNAL says who we are, and the peer asks the kernel. */
function authenticated(path: string): Promise<Authenticated> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    const fail = (why: string, cause?: unknown) => {
      clearTimeout(timer);
      socket.destroy();
      reject(new EngineError("unavailable", `cannot talk D-Bus over ${path}: ${why}`, { cause }));
    };
    const timer = setTimeout(() => fail("no answer"), TIMEOUT_MS);
    const uid = Buffer.from(String(process.getuid?.() ?? 0)).toString("hex");
    // BEGIN goes along, as sd-bus's own clients send it: what sd-bus reads together with it, a whole call, it would leave lying until more comes.
    socket.write(`\0AUTH EXTERNAL ${uid}\r\nBEGIN\r\n`);
    socket.once("error", (error) => fail(errnoOf(error) ?? error.message, error));
    socket.once("close", () => fail("the connection was closed"));
    let answer: Buffer = Buffer.alloc(0);
    const receive = (chunk: Buffer) => {
      answer = Buffer.concat([answer, chunk]);
      const end = answer.indexOf("\r\n");
      if (end < 0 && answer.length < 1000) return;
      const line = answer.toString("latin1", 0, end < 0 ? undefined : end);
      if (end < 0 || !line.startsWith("OK ")) return fail(`refused: ${line.slice(0, 100)}`);
      clearTimeout(timer);
      for (const event of ["error", "close", "data"]) socket.removeAllListeners(event);
      resolve({ socket, rest: answer.subarray(end + 2) });
    };
    socket.on("data", receive);
  });
}
