/** attach over a WebSocket: the container's streams as binary messages. @module */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { pipeline, Transform } from "node:stream";
import { createWebSocketStream, WebSocketServer } from "ws";
import type { ApiResponse } from "#api/types/transport.ts";
import { headerText } from "./hijack.ts";
import type { HeaderLines } from "./respond.ts";

/** Largest message from a client: what it has typed or pasted. */
const maxMessageBytes = 1024 * 1024;

const server: WebSocketServer = new WebSocketServer({ noServer: true, clientTracking: false, maxPayload: maxMessageBytes, perMessageDeflate: false });

/** Performs the handshake on a connection that was handed over, and joins it with the container's streams. A request that is no handshake is refused by `ws`. */
export function joinWebSocket(request: IncomingMessage, socket: Socket, response: Extract<ApiResponse, { kind: "hijack" }>, common: HeaderLines): void {
  const { stream } = response;
  // A handshake that fails never comes back to us.
  const gone = (): void => void stream.destroy();
  socket.once("close", gone);
  server.once("headers", (headers) => headers.push(...headerText(common).split("\r\n").slice(0, -1)));
  server.handleUpgrade(request, socket, Buffer.alloc(0), (webSocket) => {
    const messages = createWebSocketStream(webSocket);
    const ended = (): void => void socket.destroySoon(); // whichever side ended: the pipelines have closed the other
    if (response.framed) pipeline(stream, withoutHeaders(), messages, ended);
    else pipeline(stream, messages, ended);
    if (response.stdin) messages.pipe(stream);
    else messages.resume();
    messages.on("close", gone);
  });
}

/** Takes the 8-byte headers out: a WebSocket carries both outputs as one. */
export function withoutHeaders(): Transform {
  let header: Buffer = Buffer.alloc(0);
  let left = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      let rest = chunk;
      while (rest.length > 0) {
        if (left > 0) {
          const part = rest.subarray(0, left);
          left -= part.length;
          rest = rest.subarray(part.length);
          this.push(part);
          continue;
        }
        const missing = 8 - header.length;
        header = Buffer.concat([header, rest.subarray(0, missing)]);
        rest = rest.subarray(missing);
        if (header.length === 8) {
          left = header.readUInt32BE(4);
          header = Buffer.alloc(0);
        }
      }
      done();
    },
  });
}
