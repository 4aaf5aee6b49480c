import { once } from "node:events";
import { Writable } from "node:stream";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DetachFilter } from "./detach-filter.ts";
import { demultiplex } from "./frames.ts";
import { BrokenPipe } from "./output.ts";

function frame(stream: number, payload: Uint8Array): Buffer {
  const header = Buffer.alloc(8);
  header[0] = stream;
  header.writeUInt32BE(payload.length, 4);
  return Buffer.concat([header, payload]);
}

function sink(): Writable & { readonly bytes: () => Buffer } {
  const chunks: Buffer[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _e, done) {
      chunks.push(Buffer.from(chunk));
      done();
    },
  });
  return Object.assign(stream, { bytes: () => Buffer.concat(chunks) });
}

async function* cut(data: Buffer, at: readonly number[]): AsyncGenerator<Buffer> {
  let from = 0;
  for (const to of [...at.map((n) => n % (data.length + 1)).sort((a, b) => a - b), data.length]) {
    yield data.subarray(from, to);
    from = to;
  }
}

describe("demultiplex", () => {
  it("puts every byte where it belongs, however the stream is cut", async () => {
    const frames = fc.array(fc.tuple(fc.constantFrom(1, 2), fc.uint8Array({ maxLength: 40 })));
    await fc.assert(
      fc.asyncProperty(frames, fc.array(fc.nat(), { maxLength: 20 }), async (parts, cuts) => {
        const [out, err] = [sink(), sink()];
        await demultiplex(cut(Buffer.concat(parts.map(([stream, bytes]) => frame(stream, bytes))), cuts), out, err);
        const expected = (stream: number) => Buffer.concat(parts.filter(([s]) => s === stream).map(([, bytes]) => bytes));
        expect(out.bytes()).toEqual(expected(1));
        expect(err.bytes()).toEqual(expected(2));
      }),
    );
  });

  it("a frame of any size goes through without being collected", async () => {
    const out = sink();
    let largest = 0;
    const write = out.write.bind(out);
    out.write = ((chunk: Buffer) => {
      largest = Math.max(largest, chunk.length);
      return write(chunk);
    }) as typeof out.write;
    const big = Buffer.alloc(1_000_000, "x");
    await demultiplex(
      cut(
        frame(1, big),
        Array.from({ length: 100 }, (_, i) => i * 10_000),
      ),
      out,
      sink(),
    );
    expect(out.bytes().equals(big)).toBe(true);
    expect(largest).toBeLessThanOrEqual(10_008);
  });

  it("waits for a slow reader", async () => {
    let release: (() => void) | undefined;
    const slow = new Writable({
      highWaterMark: 1,
      write(_chunk, _e, done) {
        release = done;
      },
    });
    let read = 0;
    async function* source(): AsyncGenerator<Buffer> {
      for (read = 1; read <= 3; read++) yield frame(1, Buffer.from("abc"));
    }
    const done = demultiplex(source(), slow, sink());
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(read).toBe(1);
    const step = () => {
      const go = release;
      release = undefined;
      go?.();
    };
    while (read <= 3) {
      step();
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    step();
    await done;
  });

  it("ends when the reader has gone", async () => {
    const closed = new Writable({ highWaterMark: 1, write: () => {} });
    async function* source(): AsyncGenerator<Buffer> {
      for (;;) yield frame(1, Buffer.from("abc"));
    }
    const done = demultiplex(source(), closed, sink());
    closed.destroy();
    await once(closed, "close");
    await expect(done).rejects.toBeInstanceOf(BrokenPipe);
  });

  it("tells the daemon's own error, garbage, and a cut stream", async () => {
    const failing = (data: Buffer) => demultiplex(cut(data, []), sink(), sink());
    await expect(failing(frame(3, Buffer.from("disk full")))).rejects.toThrow("error from daemon in stream: disk full");
    await expect(failing(Buffer.from("HTTP/1.1 500"))).rejects.toThrow("Unrecognized input header: 72");
    await expect(failing(frame(1, Buffer.from("abc")).subarray(0, 9))).rejects.toThrow("ended within a frame");
  });
});

describe("detach keys", () => {
  const type = (keys: number[], ...chunks: number[][]) => {
    const filter = new DetachFilter(Uint8Array.from(keys));
    const passed: number[] = [];
    for (const chunk of chunks) {
      const { bytes, detached } = filter.push(Uint8Array.from(chunk));
      passed.push(...bytes);
      if (detached) return { passed, detached };
    }
    return { passed, detached: false };
  };
  it.each([
    ["the sequence", [[16, 17]], { passed: [], detached: true }],
    [
      "in two pieces, after text",
      [
        [1, 16],
        [17, 9],
      ],
      { passed: [1], detached: true },
    ],
    ["a broken sequence is passed on", [[16, 5]], { passed: [16, 5], detached: false }],
    ["the first key twice", [[16, 16, 17]], { passed: [16], detached: true }],
    ["a held-back key", [[16]], { passed: [], detached: false }],
  ])("%s", (_name, chunks, result) => expect(type([16, 17], ...chunks)).toEqual(result));
  it("one key", () => expect(type([24], [1, 24, 2])).toEqual({ passed: [1], detached: true }));
  it("none", () => expect(type([], [16, 17])).toEqual({ passed: [16, 17], detached: false }));
  it("without the sequence nothing is lost or changed", () => {
    fc.assert(
      fc.property(fc.array(fc.array(fc.constantFrom(1, 16))), (chunks) => {
        const { passed } = type([16, 17], ...chunks, [1]);
        expect(passed).toEqual([...chunks.flat(), 1]);
      }),
    );
  });
});
