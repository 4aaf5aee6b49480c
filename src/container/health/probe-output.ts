/** What a probe has written, as much as is kept of it. @module */

const LONGEST = 4096;

export class ProbeOutput {
  readonly #chunks: Uint8Array[] = [];
  #length = 0;
  #cut = false;

  add(bytes: Uint8Array): void {
    const room = LONGEST - this.#length;
    if (bytes.length > room) this.#cut = true;
    if (room === 0) return;
    const kept = bytes.slice(0, room); // a copy: a view would hold all of a large buffer
    this.#chunks.push(kept);
    this.#length += kept.length;
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString() + (this.#cut ? "..." : "");
  }
}

/** The payloads of Docker's 8-byte-header frames, which may be cut anywhere. */
export class FramePayloads {
  readonly #head: Buffer = Buffer.alloc(8);
  #headLength = 0;
  #left = 0;

  *read(bytes: Uint8Array): Generator<Uint8Array> {
    for (let at = 0; at < bytes.length; ) {
      if (this.#left > 0) {
        const payload = bytes.subarray(at, at + this.#left);
        this.#left -= payload.length;
        at += payload.length;
        yield payload;
        continue;
      }
      this.#head[this.#headLength++] = bytes[at++] as number;
      if (this.#headLength < 8) continue;
      this.#headLength = 0;
      this.#left = this.#head.readUInt32BE(4);
    }
  }
}
