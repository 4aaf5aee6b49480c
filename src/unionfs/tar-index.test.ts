import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, expect, it } from "vitest";
import { pieceBytes } from "#core/pieces.ts";
import { readTarIndex, type TarIndexRecord, TarIndexWriter } from "./tar-index.ts";

const base = mkdtempSync(join(tmpdir(), "tar-index-"));
afterAll(() => rmSync(base, { recursive: true, force: true }));

async function recordsOf(path: string): Promise<TarIndexRecord[]> {
  const records: TarIndexRecord[] = [];
  for await (const some of readTarIndex(path)) records.push(...some);
  return records;
}

/** Meta bytes that follow each other may come back cut elsewhere. */
function joined(records: readonly TarIndexRecord[]): unknown[] {
  const out: ({ meta: Buffer } | { file: TarIndexRecord })[] = [];
  for (const record of records) {
    const last = out.at(-1);
    if (record.kind === "file") out.push({ file: record });
    else if (last !== undefined && "meta" in last) last.meta = Buffer.concat([last.meta, record.bytes]);
    else out.push({ meta: Buffer.from(record.bytes) });
  }
  return out.map((item) => ("meta" in item ? item.meta.toString("hex") : item.file));
}

const path = fc.stringMatching(/^[\x01-\xff]{1,300}$/);
const long = fc.maxSafeNat();
const step = fc.oneof(
  fc.record({ kind: fc.constant("meta" as const), bytes: fc.uint8Array({ minLength: 1, maxLength: 2000 }), times: fc.constantFrom(1, 1, 1, 300) }),
  fc.record({
    kind: fc.constant("file" as const),
    path,
    bytes: long,
    extents: fc.option(fc.array(fc.record({ offset: long, length: long })), { nil: undefined }),
  }),
);

let number = 0;

it("gives back what was put in: bytes, names of any bytes, and numbers of 53 bits", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const file = join(base, `index-${number++}`);
      const writer = new TarIndexWriter(file);
      const put: TarIndexRecord[] = [];
      let files = 0;
      for (const one of steps) {
        if (one.kind === "meta") {
          const bytes = Buffer.concat(Array.from({ length: one.times }, () => one.bytes));
          writer.meta(bytes);
          put.push({ kind: "meta", bytes });
        } else {
          expect(writer.file(one.path, one.bytes, one.extents)).toBe(files);
          put.push({ kind: "file", number: files++, path: one.path, bytes: one.bytes, extents: one.extents ?? [{ offset: 0, length: one.bytes }] });
        }
        await writer.drained();
      }
      await writer.finish();
      expect(joined(await recordsOf(file))).toEqual(joined(put));
    }),
    { numRuns: 40 },
  );
});

it("holds records that do not fit where the last one ends", async () => {
  const file = join(base, "full");
  const writer = new TarIndexWriter(file);
  const meta = Buffer.alloc(pieceBytes - 20, "m");
  writer.meta(meta);
  writer.file("a".repeat(4000), 5, undefined);
  await writer.finish();
  expect(joined(await recordsOf(file))).toEqual([
    meta.toString("hex"),
    { kind: "file", number: 0, path: "a".repeat(4000), bytes: 5, extents: [{ offset: 0, length: 5 }] },
  ]);
});

it("refuses a path that no file can have", async () => {
  const writer = new TarIndexWriter(join(base, "long"));
  expect(() => writer.file("a".repeat(100_000), 1, undefined)).toThrow("a path of 100000 bytes is longer than a file's can be");
  await writer.discard();
});
