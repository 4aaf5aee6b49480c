/** HTTP/2 without asking first: the client begins with its preface, at which node's parser for HTTP/1.1 stops. @module @see RFC 9113 §3.3, §3.4 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";

/** What node's parser reports at the preface `PRI * HTTP/2.0`. */
export const prefaceCode = "HPE_PAUSED_H2_UPGRADE";

const ofHttp1 = ["data", "end", "close", "drain", "error", "timeout"] as const;

/** The connection from its first byte on, no longer node:http's. `received`: what the parser has been given. */
export function detachFromHttp1(socket: Socket, received: Uint8Array): Duplex {
  for (const event of ofHttp1) socket.removeAllListeners(event);
  socket.setTimeout(0);
  socket.setNoDelay(true);
  // A stream of ours: node:http has read from the socket's handle, so that http2 cannot read from it itself.
  const stream = new Duplex({
    read() {
      socket.resume();
    },
    write(chunk: Buffer, _encoding, done) {
      socket.write(chunk, done);
    },
    final(done) {
      socket.end(done);
    },
    destroy(error, done) {
      socket.destroy();
      done(error);
    },
  });
  stream.push(received);
  socket.on("data", (chunk: Buffer) => {
    if (!stream.push(chunk)) socket.pause();
  });
  // Who closes one direction is gone: there is no half of HTTP/2.
  for (const event of ["end", "close", "error"] as const) socket.on(event, () => stream.destroy());
  return stream;
}
