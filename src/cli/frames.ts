/** Docker's 8-byte-header frames, taken apart with back-pressure. @module */
import type { Writable } from "node:stream";
import { write } from "./output.ts";

const headerBytes = 8;
/** Stream numbers: 0 stdin (echoed), 1 stdout, 2 stderr, 3 an error of the daemon. */
const stderrStream = 2;
const errorStream = 3;

/**
 * Copies frames to stdout and stderr until the source ends. Payloads are written as they arrive, however the source cuts them; nothing is collected but
 * a header. Throws Error for a daemon's error frame and for a stream that ends within a frame.
 */
export async function demultiplex(source: AsyncIterable<Uint8Array>, stdout: Writable, stderr: Writable): Promise<void> {
  const header = Buffer.alloc(headerBytes);
  let have = 0; // bytes of the header
  let left = 0; // bytes of the payload still to come
  let failure = "";
  for await (const chunk of source) {
    let at = 0;
    while (at < chunk.length) {
      if (have < headerBytes) {
        const take = Math.min(headerBytes - have, chunk.length - at);
        header.set(chunk.subarray(at, at + take), have);
        have += take;
        at += take;
        if (have < headerBytes) break;
        if (header[0]! > errorStream) throw new Error(`Unrecognized input header: ${header[0]}`);
        left = header.readUInt32BE(4);
      }
      const payload = chunk.subarray(at, at + left);
      at += payload.length;
      left -= payload.length;
      if (payload.length > 0) {
        if (header[0] === errorStream) failure += Buffer.from(payload).toString("utf8");
        else await write(header[0] === stderrStream ? stderr : stdout, payload);
      }
      if (left === 0) {
        if (failure !== "") throw new Error(`error from daemon in stream: ${failure}`);
        have = 0;
      }
    }
  }
  if (have > 0) throw new Error("the stream from the daemon ended within a frame");
}
