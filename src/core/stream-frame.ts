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
