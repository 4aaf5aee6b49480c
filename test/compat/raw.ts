/** A raw connection to an API socket: what is sent and what comes, byte for byte. @module */
import { connect, type Socket } from "node:net";

export interface RawConnection {
  readonly socket: Socket;
  /** All bytes so far, as latin1. */
  text(): string;
  until(part: string | RegExp, timeoutMs?: number): Promise<string>;
  /** The server has closed its side. */
  ended(timeoutMs?: number): Promise<string>;
}

export function rawConnection(path: string): RawConnection {
  const socket = connect({ path, allowHalfOpen: true });
  let got = "";
  let over = false;
  const watchers = new Set<() => void>();
  const notify = (): void => {
    for (const watch of watchers) watch();
  };
  socket.on("data", (chunk: Buffer) => {
    got += chunk.toString("latin1");
    notify();
  });
  for (const name of ["end", "close"]) {
    socket.on(name, () => {
      over = true;
      notify();
    });
  }
  socket.on("error", () => undefined); // "close" follows
  const wait = (done: () => boolean, what: string, timeoutMs: number): Promise<string> =>
    new Promise((resolve, reject) => {
      const finish = (settle: () => void): void => {
        clearTimeout(timer);
        watchers.delete(check);
        settle();
      };
      const timer = setTimeout(() => finish(() => reject(new Error(`waited for ${what}, got ${JSON.stringify(got.slice(-2000))}`))), timeoutMs);
      const check = (): void => {
        if (done()) finish(() => resolve(got));
      };
      watchers.add(check);
      check();
    });
  return {
    socket,
    text: () => got,
    until: (part, timeoutMs = 5000) => wait(() => (typeof part === "string" ? got.includes(part) : part.test(got)), String(part), timeoutMs),
    ended: (timeoutMs = 5000) => wait(() => over, "the end", timeoutMs),
  };
}

export interface Frame {
  readonly type: number;
  readonly data: string;
}

/** Docker's 8-byte-header frames behind an HTTP header; a part of a frame at the end is left out. */
export function framesOf(reply: string): Frame[] {
  const bytes = Buffer.from(reply.slice(reply.indexOf("\r\n\r\n") + 4), "latin1");
  const frames: Frame[] = [];
  for (let at = 0; at + 8 <= bytes.length; ) {
    const size = bytes.readUInt32BE(at + 4);
    if (at + 8 + size > bytes.length) break;
    frames.push({ type: bytes[at]!, data: bytes.toString("utf8", at + 8, at + 8 + size) });
    at += 8 + size;
  }
  return frames;
}

/** All data of one stream. */
export function dataOf(frames: readonly Frame[], type: number): string {
  return frames
    .filter((frame) => frame.type === type)
    .map((frame) => frame.data)
    .join("");
}
