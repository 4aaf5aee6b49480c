/** Docker's frames of a multiplexed stream: u8 stream (1 stdout, 2 stderr), three zeros, u32 length (big endian), bytes. @module */

export const frameHeadBytes = 8;

/** Writes a frame's head at an offset; returns where its bytes begin. */
export function writeFrameHead(to: Buffer, at: number, stream: "stdout" | "stderr", length: number): number {
  to.writeUInt32LE(stream === "stdout" ? 1 : 2, at);
  to.writeUInt32BE(length, at + 4);
  return at + frameHeadBytes;
}

export function frameHead(stream: "stdout" | "stderr", length: number): Buffer {
  const head = Buffer.allocUnsafe(frameHeadBytes);
  writeFrameHead(head, 0, stream, length);
  return head;
}

/** The payloads of a framed stream, in the pieces they come in. What ends within a frame ends there. */
export async function* framePieces(source: AsyncIterable<Uint8Array>): AsyncIterable<{ readonly stream: "stdout" | "stderr"; readonly data: Uint8Array }> {
  let head: Buffer = Buffer.alloc(0);
  let left = 0;
  for await (const chunk of source) {
    for (let at = 0; at < chunk.length; ) {
      if (left === 0) {
        const part = chunk.subarray(at, at + frameHeadBytes - head.length);
        head = Buffer.concat([head, part]);
        at += part.length;
        if (head.length < frameHeadBytes) break;
        left = head.readUInt32BE(4);
      }
      const data = chunk.subarray(at, at + left);
      if (data.length > 0) yield { stream: head[0] === 2 ? "stderr" : "stdout", data };
      left -= data.length;
      at += data.length;
      if (left === 0) head = Buffer.alloc(0);
    }
  }
}
