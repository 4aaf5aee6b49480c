/** Connections to registries, whose bytes arrive in memory that is used again (core/pieces). @module */
import type { OnReadOpts, Socket } from "node:net";
import type { buildConnector } from "undici";
import { giveBack, takePiece } from "#core/pieces.ts";

/** What comes at once and is less than this is copied: many who wait for a slow registry's bytes hold few of their pieces. */
const smallBytes = 64 * 1024;

/**
 * How undici gets its connections. Node has new memory for each 64 KiB that it reads; V8 counts that memory and collects the whole heap for every 16 MiB or so (ADR 101).
 *
 * Nothing that was read at once belongs to two answers: undici asks for the next one when this one is here. So whoever reads an answer has its pieces alone, and gives them back, or leaves them to the collector.
 */
export function connector(build: typeof buildConnector, options: buildConnector.BuildOptions): buildConnector.connector {
  return (where, callback) => {
    let piece: Buffer | undefined;
    const onread: OnReadOpts = {
      buffer: () => (piece ??= takePiece()),
      /** The socket calls it as its own; false: it reads no more until somebody asks. */
      callback(this: Socket, bytes, buffer) {
        const read = buffer.subarray(0, bytes);
        if (bytes < smallBytes) return this.push(Buffer.from(read));
        piece = undefined;
        return this.push(read);
      },
    };
    build({ ...options, onread })(where, (...answer) => {
      answer[1]?.once("close", () => {
        if (piece !== undefined) giveBack(piece);
        piece = undefined;
      });
      callback(...answer);
    });
  };
}
