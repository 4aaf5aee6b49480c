/** Docker's 8-byte-header frames, taken apart with back-pressure. @module */
import type { Writable } from "node:stream";
import { copyBytes } from "#core/copy-bytes.ts";
import { frameHeadBytes } from "#core/stream-frame.ts";
import { write } from "./output.ts";

/** Stream numbers: 0 stdin (echoed), 1 stdout, 2 stderr, 3 an error of the daemon. */
const stderrStream = 2;
const errorStream = 3;

/**
 * Copies frames to stdout and stderr until the source ends. What one piece of the source holds for the same stream is written at once, in
 * order: a log of short lines is a frame for each, and a write for each would cost more than all the rest. Throws Error for a daemon's error
 * frame and for a stream that ends within a frame.
 */
export async function demultiplex(source: AsyncIterable<Uint8Array>, stdout: Writable, stderr: Writable): Promise<void> {
  const header = Buffer.alloc(frameHeadBytes);
  let have = 0; // bytes of the header
  let left = 0; // bytes of the payload still to come
  let failure = "";
  for await (const chunk of source) {
    const gathered = Buffer.allocUnsafe(chunk.length);
    let written = 0; // of what is gathered
    let to = 0;
    let target = stdout;
    const flush = async () => {
      if (to > written) await write(target, gathered.subarray(written, to));
      written = to;
    };
    let at = 0;
    while (at < chunk.length) {
      if (have < frameHeadBytes) {
        const take = Math.min(frameHeadBytes - have, chunk.length - at);
        for (const end = at + take; at < end; at++) header[have++] = chunk[at]!;
        if (have < frameHeadBytes) break;
        if (header[0]! > errorStream) {
          await flush();
          throw new Error(`Unrecognized input header: ${header[0]}`);
        }
        left = header.readUInt32BE(4);
      }
      const from = at;
      at = Math.min(at + left, chunk.length);
      left -= at - from;
      if (header[0] === errorStream) failure += Buffer.from(chunk.subarray(from, at)).toString("utf8");
      else {
        const wanted = header[0] === stderrStream ? stderr : stdout;
        if (wanted !== target) await flush();
        target = wanted;
        to = copyBytes(chunk, from, at, gathered, to);
      }
      if (left === 0) {
        if (failure !== "") {
          await flush();
          throw new Error(`error from daemon in stream: ${failure}`);
        }
        have = 0;
      }
    }
    await flush();
  }
  if (have > 0) throw new Error("the stream from the daemon ended within a frame");
}
