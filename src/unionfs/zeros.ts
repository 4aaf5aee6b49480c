/** Runs of zeros: what is a hole in a sparse file. @module */

/** 64 KiB. Not to be written to. */
export const zeros: Buffer = Buffer.alloc(64 * 1024);

export function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.byteLength; at += zeros.length) {
    const part = bytes.subarray(at, at + zeros.length);
    if (Buffer.compare(part, zeros.subarray(0, part.byteLength)) !== 0) return false;
  }
  return true;
}
