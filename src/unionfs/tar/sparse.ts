import { type ByteString, corrupt, printable } from "../bytes.ts";
import type { Extent } from "./entry.ts";
import { parseNumber } from "./header.ts";

/** More runs than this in one file are refused: the map is held in memory. */
export const maxExtents: number = 1 << 18;

/** The up to `count` runs at `offset` of a GNU sparse header or its extension; an empty one ends them. */
export function parseGnuExtents(block: Buffer, offset: number, count: number, into: Extent[], name: ByteString): void {
  for (let i = 0; i < count; i++) {
    const at = offset + i * 24;
    if (block[at] === 0) return;
    const start = parseNumber(block, at, 12);
    const length = parseNumber(block, at + 12, 12);
    if (start === undefined || length === undefined) throw badMap(name);
    push(into, start, length, name);
  }
}

/** pax 0.1: `offset,length,offset,length…` (0.0 is brought into this form). */
export function parsePaxMap(map: string, name: ByteString): Extent[] {
  const extents: Extent[] = [];
  if (map === "") return extents;
  const numbers = map.split(",", 2 * maxExtents + 2);
  if (numbers.length % 2 !== 0) throw badMap(name);
  for (let i = 0; i < numbers.length; i += 2) push(extents, decimal(numbers[i]!, name), decimal(numbers[i + 1]!, name), name);
  return extents;
}

/**
 * pax 1.0: the map stands before the data, a decimal number a line (count, then offset and length of each), padded to a block. `readBlock` gives the next 512 bytes.
 */
export async function readLeadingMap(readBlock: () => Promise<Buffer>, name: ByteString): Promise<Extent[]> {
  let text = "";
  let at = 0;
  const line = async () => {
    let end = text.indexOf("\n", at);
    while (end < 0) {
      if (text.length - at > 20) throw badMap(name);
      text = text.slice(at) + (await readBlock()).toString("latin1");
      at = 0;
      end = text.indexOf("\n");
    }
    const value = decimal(text.slice(at, end), name);
    at = end + 1;
    return value;
  };
  const count = await line();
  if (count > maxExtents) throw badMap(name, `has more than ${maxExtents} runs of data`);
  const extents: Extent[] = [];
  for (let i = 0; i < count; i++) push(extents, await line(), await line(), name);
  return extents;
}

/** Runs must be in order, apart, inside the file, and amount to what is stored. */
export function checkExtents(extents: readonly Extent[], size: number, storedSize: number, name: ByteString): void {
  let end = 0;
  let sum = 0;
  for (const { offset, length } of extents) {
    if (offset < end || length > size - offset) throw badMap(name);
    end = offset + length;
    sum += length;
  }
  if (sum !== storedSize) throw badMap(name);
}

function push(extents: Extent[], offset: number, length: number, name: ByteString): void {
  if (offset < 0 || length < 0 || !Number.isSafeInteger(offset + length)) throw badMap(name);
  if (extents.length >= maxExtents) throw badMap(name, `has more than ${maxExtents} runs of data`);
  extents.push({ offset, length });
}

function decimal(text: string, name: ByteString): number {
  if (!/^[0-9]{1,16}$/.test(text)) throw badMap(name);
  return Number(text);
}

function badMap(name: ByteString, what = "has an invalid sparse map") {
  return corrupt(`archive entry "${printable(name)}" ${what}`);
}

/** Offsets in a GNU sparse header block and in its extensions. */
export const gnuSparse = { firstMap: 386, firstCount: 4, extended: 482, realSize: 483, nextCount: 21, nextExtended: 504 } as const;
