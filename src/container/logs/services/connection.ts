/** A stream to a service, opened when it is first written to, and given up at the first failure. @module */
import { connect as connectTcp, type NetConnectOpts, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import { errnoOf } from "#core/errors.ts";

/** Where it is, as Go names it in "dial tcp 127.0.0.1:24224: …". */
export interface Peer {
  readonly network: "tcp" | "unix" | "tcp+tls";
  readonly address: string;
  readonly to: NetConnectOpts;
  readonly tls?: ConnectionOptions;
}

const words: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connect: connection refused",
  ENOENT: "connect: no such file or directory",
  ETIMEDOUT: "i/o timeout",
  EHOSTUNREACH: "connect: no route to host",
  ENETUNREACH: "connect: network is unreachable",
  EACCES: "connect: permission denied",
  EPROTOTYPE: "connect: protocol wrong type for socket",
};

const CONNECT_MS = 10_000;
const WRITE_MS = 30_000;

export class Connection {
  readonly #peer: Peer;
  readonly #writeMs: number;
  #socket: Promise<Socket> | undefined;
  #openedAt = 0;

  constructor(peer: Peer, { writeTimeoutMs = WRITE_MS }: { readonly writeTimeoutMs?: number } = {}) {
    this.#peer = peer;
    this.#writeMs = writeTimeoutMs;
  }

  /** Closes a connection that is older: the next write makes a new one. */
  renew(olderThanMs: number): void {
    if (this.#socket !== undefined && performance.now() - this.#openedAt > olderThanMs) this.close();
  }

  /** @throws Error "dial tcp …: connect: connection refused" */
  open(): Promise<Socket> {
    this.#socket ??= dial(this.#peer).then(
      (socket) => {
        this.#openedAt = performance.now();
        const gone = () => {
          this.#socket = undefined;
        };
        socket
          .on("error", gone)
          .on("close", gone)
          .on("end", () => socket.destroy());
        return socket;
      },
      (error: unknown) => {
        this.#socket = undefined;
        throw error;
      },
    );
    return this.#socket;
  }

  /** Resolves when the kernel has the bytes. After a failure the next write connects anew. */
  async write(bytes: Uint8Array, signal: AbortSignal): Promise<Socket> {
    const socket = await this.open();
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => end(new Error(`write ${this.#peer.address}: i/o timeout`)), this.#writeMs);
      const abort = () => end(signal.reason as Error);
      const closed = () => end(new Error(`write ${this.#peer.address}: the connection was closed`));
      const end = (error?: Error | null) => {
        clearTimeout(timer);
        signal.removeEventListener("abort", abort);
        socket.off("close", closed);
        if (error === undefined || error === null) return resolve();
        socket.destroy();
        reject(error);
      };
      signal.addEventListener("abort", abort, { once: true });
      socket.once("close", closed);
      if (socket.destroyed) return closed();
      socket.write(bytes, end);
    });
    return socket;
  }

  close(): void {
    void this.#socket?.then(
      (socket) => socket.destroySoon(),
      () => undefined, // it was never open
    );
    this.#socket = undefined;
  }
}

function dial({ network, address, to, tls }: Peer): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = tls === undefined ? connectTcp(to) : connectTls({ ...to, ...tls } as ConnectionOptions);
    const fail = (error: Error) => {
      socket.destroy();
      reject(new Error(`dial ${network} ${address}: ${words[errnoOf(error) ?? ""] ?? error.message}`, { cause: error }));
    };
    socket.setTimeout(CONNECT_MS, () => fail(new Error("i/o timeout")));
    socket.once("error", fail);
    socket.once(tls === undefined ? "connect" : "secureConnect", () => {
      socket.setTimeout(0);
      socket.off("error", fail);
      socket.unref().resume(); // what nobody waits for is thrown away, but its end is seen
      resolve(socket);
    });
  });
}
