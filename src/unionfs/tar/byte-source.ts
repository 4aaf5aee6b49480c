/** Bytes of a stream in the portions that a parser wants, as views of the chunks they came in wherever they lie in one. */
export class ByteSource {
  readonly #source: AsyncIterator<Uint8Array>;
  #chunk: Buffer = Buffer.alloc(0);
  #at = 0;
  #ended = false;
  #position = 0;

  /** Bytes handed out so far. */
  get position(): number {
    return this.#position;
  }

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Bytes that are here and wait for nothing. */
  get ready(): number {
    return this.#chunk.length - this.#at;
  }

  /** Sees to it that `length` bytes are {@link ready}. False: the stream ends before. */
  async want(length: number): Promise<boolean> {
    if (this.ready >= length) return true;
    const pieces = [this.#chunk.subarray(this.#at)];
    let ready = this.ready;
    while (ready < length && (await this.#fill())) {
      pieces.push(this.#chunk);
      ready += this.#chunk.length;
    }
    this.#chunk = Buffer.concat(pieces);
    this.#at = 0;
    return ready >= length;
  }

  /** The `length` bytes that begin `ahead` bytes from here; all of them are {@link ready}. They stay to be taken. */
  peek(ahead: number, length: number): Buffer {
    return this.#chunk.subarray(this.#at + ahead, this.#at + ahead + length);
  }

  /** Takes `length` bytes that are {@link ready}. */
  takeReady(length: number): Buffer {
    const bytes = this.#chunk.subarray(this.#at, this.#at + length);
    this.#at += length;
    this.#position += length;
    return bytes;
  }

  /** Passes over `length` bytes that are {@link ready}. */
  skip(length: number): void {
    this.#at += length;
    this.#position += length;
  }

  /** Up to `max` bytes, at least one; undefined at the end. Never copied. */
  async piece(max: number): Promise<Buffer | undefined> {
    if (this.#at === this.#chunk.length && !(await this.#fill())) return undefined;
    const piece = this.#chunk.subarray(this.#at, this.#at + max);
    this.#at += piece.length;
    this.#position += piece.length;
    return piece;
  }

  /** `length` bytes in one buffer; fewer when the stream ends. */
  async take(length: number): Promise<Buffer> {
    if (this.ready >= length) return this.takeReady(length);
    const pieces: Buffer[] = [];
    for (let missing = length; missing > 0; ) {
      const piece = await this.piece(missing);
      if (piece === undefined) break;
      missing -= piece.length;
      // A copy: the stream may use the memory again.
      pieces.push(Buffer.from(piece));
    }
    return Buffer.concat(pieces);
  }

  /** Gives the stream up. */
  async close(): Promise<void> {
    this.#chunk = Buffer.alloc(0);
    this.#at = 0;
    this.#ended = true;
    await this.#source.return?.();
  }

  async #fill(): Promise<boolean> {
    while (!this.#ended) {
      const { done, value } = await this.#source.next();
      if (done === true) {
        this.#ended = true;
      } else if (value.byteLength > 0) {
        this.#chunk = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
        this.#at = 0;
        return true;
      }
    }
    return false;
  }
}
