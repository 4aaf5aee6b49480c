// Inflate (RFC 1951) of a stream that comes in pieces, for layers that are taken in. AssemblyScript: TypeScript's syntax, compiled to WebAssembly by scripts/gen-wasm.mjs. Docs: docs/adr/0094.
//
// Tables of codes are looked up by 11 and 8 bits, longer codes go by a second table, and up to 63 bits are at hand at once, as in libdeflate (decompress_template.h, Eric Biggers). What follows
// is decoded one symbol at a time where the input or the room for output runs out, so that a call can stop after any symbol and go on when there is more. The input is hostile: what it
// may say is checked before it is used; memory is laid out here and cannot be left.

/** Room for compressed bytes. */
const maxInput: usize = 1 << 18;
/** Plain bytes of one call at most. */
const maxOutput: usize = 1 << 19;
const window: usize = 32768;
const literalBits: i32 = 11;
const distanceBits: i32 = 8;
const lengthBits: i32 = 7;
const maxCodeBits: i32 = 15;
const maxMatch: usize = 258;
/** A dynamic block's head has at most 14 + 19 × 3 + 320 × 14 bits. */
const maxHead: usize = 600;
/** What a match may write beyond its end: 16 bytes at least, then 8 at a time. */
const slack: usize = 16;
/** Input that has to be there for symbols to be read without asking whether there is any. */
const fastInput: usize = 24;

/** What a call ends with. */
export const needsInput: i32 = 0;
export const hasOutput: i32 = 1;
export const isDone: i32 = 2;
export const isTruncated: i32 = 3;
export const isInvalid: i32 = 4;

// An entry of a table (u32): bits 0–5 are the bits that it takes with the extra ones, 8–11 those of the code alone (in a pointer: how many bits look up the second table), 16–31 a literal,
// the least length or distance, or where the second table begins.
const isLiteral: u32 = 1 << 15;
const isOther: u32 = 1 << 14;
/** With `isOther`: the block ends, or no code is like that; else it points to a second table. */
const isEnd: u32 = 1 << 13;
const isNoCode: u32 = 1 << 12;

/** The order of RFC 1951 3.2.7. The compiler puts what is `memory.data` below the address 4096. */
const codeOrder: usize = memory.data<u8>([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]);
const lengthExtra: usize = memory.data<u8>([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0]);
const lengthBase: usize = memory.data<u16>([3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258]);
const distanceExtra: usize = memory.data<u8>([0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13]);
const distanceBase: usize = memory.data<u16>([
  1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577,
]);
// What lies at each address stands on the right. Second tables: zlib's enough.c finds at most 2,342 entries for 288 symbols by 11 bits, and 402 for 32 by 8.
const literalTable: usize = 4096; //                         u32[2560]
const distanceTable: usize = literalTable + 2560 * 4; //     u32[512]
const lengthTable: usize = distanceTable + 512 * 4; //       u32[128]
const lengths: usize = lengthTable + 128 * 4; //             u8[320]: bits of each code, literals first; a repeat may run 138 too far
const perLength: usize = lengths + 512; //                   u32[16]
const offsets: usize = perLength + 64; //                    u32[16]
const sorted: usize = offsets + 64; //                       u16[320]
const input: usize = 65536; //                               u8[maxInput], and what a load of 8 bytes may read beyond
// Two pieces of output in turns, each behind what lies before it: a piece stays as it is during the next call.
const outputs: usize = input + maxInput + 64; //             (u8[window], u8[maxOutput], slack) × 2
const outputStep: usize = window + maxOutput + 64;

export const memoryBytes: usize = outputs + 2 * outputStep;
export const inputAddress: usize = input;
export const inputBytes: usize = maxInput;

// Input that is not read, bits that are read and not used.
let at: usize = input;
let end: usize = input;
let bits: u64 = 0;
let left: u32 = 0;
// Where plain bytes go, and what of those before them the stream may refer to.
let begin: usize = outputs + window;
let out: usize = begin;
let lowest: usize = begin;
/** What comes next: a block's head, the rest of a stored block, or symbols. */
let state: i32 = 0;
let stored: usize = 0;
let isLast: bool = false;

/** Forgets all there was, also a stream that was invalid. */
export function restart(): void {
  at = input;
  end = input;
  begin = outputs + window;
  out = begin;
  begins();
}

/** A new stream begins with the next byte; what is there of plain bytes stays. */
export function begins(): void {
  bits = 0;
  left = 0;
  lowest = out;
  state = 0;
  isLast = false;
}

/** Input that is not used begins here. */
export function inputAt(): usize {
  return at;
}
export function inputEnd(): usize {
  return end;
}
export function skipInput(bytes: usize): void {
  at += bytes;
}

/** Whole bytes that were read ahead are not read. */
function giveBack(): void {
  at -= left >> 3;
  left &= 7;
  bits &= (<u64>1 << left) - 1;
}

/** Makes room behind what is left of the input, and tells where that is. */
export function roomAt(): usize {
  giveBack();
  const rest = end - at;
  memory.copy(input, at, rest);
  at = input;
  end = input + rest;
  return end;
}
/** So many bytes were put there. */
export function added(bytes: usize): void {
  end += bytes;
}

export function outputAt(): usize {
  return begin;
}
export function outputEnd(): usize {
  return out;
}
/** The plain bytes were taken; the next go elsewhere. */
export function taken(): void {
  const next = begin < outputs + outputStep ? outputs + outputStep + window : outputs + window;
  const known = min(out - lowest, window);
  memory.copy(next - known, out - known, known);
  lowest = next - known;
  begin = next;
  out = next;
}

// @ts-ignore: decorator
@inline
function entryOf(value: u32, code: u32, extra: u32): u32 {
  return (value << 16) | (code << 8) | (code + extra);
}

/** The entry of a symbol whose code takes `code` bits of the table it is in. */
function describe(kind: i32, symbol: u32, code: u32): u32 {
  if (kind == 0) return (symbol << 16) | code;
  if (kind == 1) {
    if (symbol < 256) return isLiteral | (symbol << 16) | code;
    if (symbol == 256) return isOther | isEnd | code;
    if (symbol > 285) return isOther | isNoCode | code;
    return entryOf(load<u16>(lengthBase + (<usize>(symbol - 257) << 1)), code, load<u8>(lengthExtra + symbol - 257));
  }
  if (symbol > 29) return isOther | isNoCode | code;
  return entryOf(load<u16>(distanceBase + (<usize>symbol << 1)), code, load<u8>(distanceExtra + symbol));
}

function reversed(code: u32, bits: i32): u32 {
  let result: u32 = 0;
  for (let i = 0; i < bits; i++) result |= ((code >> i) & 1) << (bits - 1 - i);
  return result;
}

/** Makes the table of a code whose symbols have these lengths; kind 0: of lengths, 1: of literals, 2: of distances. False: no code has such lengths. */
function build(kind: i32, from: usize, count: i32, table: usize, tableBits: i32): bool {
  memory.fill(perLength, 0, 64);
  for (let i = 0; i < count; i++) {
    const counter = perLength + (<usize>load<u8>(from + i) << 2);
    store<u32>(counter, load<u32>(counter) + 1);
  }
  let longest = maxCodeBits;
  while (longest > 0 && load<u32>(perLength + (<usize>longest << 2)) == 0) longest--;
  // As zlib: all bits mean something, but for a single code of one bit, or none at all, where no lengths (or distances) occur.
  let free: i32 = 1;
  for (let bits = 1; bits <= maxCodeBits; bits++) {
    free = (free << 1) - load<u32>(perLength + (<usize>bits << 2));
    if (free < 0) return false;
  }
  if (free > 0 && (kind == 0 || longest > 1)) return false;
  store<u32>(offsets + 4, 0);
  for (let bits = 1; bits < maxCodeBits; bits++)
    store<u32>(offsets + (<usize>(bits + 1) << 2), load<u32>(offsets + (<usize>bits << 2)) + load<u32>(perLength + (<usize>bits << 2)));
  for (let i = 0; i < count; i++) {
    const bits = load<u8>(from + i);
    if (bits == 0) continue;
    const place = offsets + (<usize>bits << 2);
    store<u16>(sorted + (<usize>load<u32>(place) << 1), <u16>i);
    store<u32>(place, load<u32>(place) + 1);
  }
  const size: u32 = 1 << tableBits;
  for (let i: u32 = 0; i < size; i++) store<u32>(table + (<usize>i << 2), isOther | isNoCode | 1);
  let code: u32 = 0;
  let index: usize = 0;
  let next: u32 = size;
  let second: u32 = 0;
  let secondBits = 0;
  let prefix: u32 = 0xffffffff;
  for (let bits = 1; bits <= longest; bits++) {
    for (let n = load<u32>(perLength + (<usize>bits << 2)); n > 0; n--) {
      const symbol = <u32>load<u16>(sorted + (index++ << 1));
      const turned = reversed(code, bits);
      if (bits <= tableBits) {
        const entry = describe(kind, symbol, bits);
        for (let i = turned; i < size; i += 1 << bits) store<u32>(table + (<usize>i << 2), entry);
      } else {
        if ((turned & (size - 1)) != prefix) {
          prefix = turned & (size - 1);
          // As many bits as the codes that begin so need.
          secondBits = bits - tableBits;
          let room: i32 = 1 << secondBits;
          let more = n;
          for (let longer = bits; longer < longest; ) {
            room -= more;
            if (room <= 0) break;
            room <<= 1;
            secondBits++;
            longer++;
            more = load<u32>(perLength + (<usize>longer << 2));
          }
          second = next;
          next += 1 << secondBits;
          store<u32>(table + (<usize>prefix << 2), isOther | (second << 16) | (secondBits << 8) | tableBits);
        }
        const entry = describe(kind, symbol, bits - tableBits);
        for (let i = turned >> tableBits; i < <u32>1 << secondBits; i += 1 << (bits - tableBits)) store<u32>(table + (<usize>(second + i) << 2), entry);
      }
      code++;
    }
    code <<= 1;
  }
  return true;
}

function buildBoth(literals: i32, distances: i32): bool {
  return build(1, lengths, literals, literalTable, literalBits) && build(2, lengths + literals, distances, distanceTable, distanceBits);
}

/** As many bits as there are, up to 56 at least. */
// @ts-ignore: decorator
@inline
function gather(): void {
  while (left <= 56 && at < end) {
    bits |= <u64>load<u8>(at++) << left;
    left += 8;
  }
}

/** The next bits; `left` goes below zero (as a signed number) where there are not as many. */
function take(count: u32): u32 {
  gather();
  const value = <u32>(bits & ((<u64>1 << count) - 1));
  bits >>= count;
  left -= count;
  return value;
}

/** The lengths of a dynamic block's codes, and its tables. */
function readCodes(): i32 {
  const literals: u32 = 257 + take(5);
  const distances: u32 = 1 + take(5);
  const described: u32 = 4 + take(4);
  if (<i32>left < 0) return isTruncated;
  if (literals > 286 || distances > 30) return isInvalid;
  memory.fill(lengths, 0, 19);
  for (let i: u32 = 0; i < described; i++) store<u8>(lengths + load<u8>(codeOrder + i), <u8>take(3));
  if (<i32>left < 0) return isTruncated;
  if (!build(0, lengths, 19, lengthTable, lengthBits)) return isInvalid;
  for (let i: u32 = 0; i < literals + distances; ) {
    gather();
    const entry = load<u32>(lengthTable + ((<usize>bits & ((1 << lengthBits) - 1)) << 2));
    if (entry & isOther) return isInvalid;
    take(entry & 63);
    const symbol = entry >> 16;
    let value: u8 = 0;
    let times: u32 = 1;
    if (symbol < 16) value = <u8>symbol;
    else if (symbol == 16) {
      if (i == 0) return isInvalid;
      value = load<u8>(lengths + i - 1);
      times = 3 + take(2);
    } else times = symbol == 17 ? 3 + take(3) : 11 + take(7);
    if (<i32>left < 0) return isTruncated;
    if (i + times > literals + distances) return isInvalid;
    memory.fill(lengths + i, value, times);
    i += times;
  }
  // A block without an end.
  if (load<u8>(lengths + 256) == 0) return isInvalid;
  return buildBoth(literals, distances) ? needsInput : isInvalid;
}

function fixedCodes(): void {
  memory.fill(lengths, 8, 144);
  memory.fill(lengths + 144, 9, 112);
  memory.fill(lengths + 256, 7, 24);
  memory.fill(lengths + 280, 8, 8);
  memory.fill(lengths + 288, 5, 32);
  buildBoth(288, 32);
}

/** A block's head; answers `needsInput` when it was read. */
function readHead(): i32 {
  isLast = take(1) != 0;
  const kind = take(2);
  if (<i32>left < 0) return isTruncated;
  if (kind == 3) return isInvalid;
  if (kind == 0) {
    take(left & 7);
    const length = take(16);
    const check = take(16);
    if (<i32>left < 0) return isTruncated;
    if ((length ^ check) != 0xffff) return isInvalid;
    giveBack();
    stored = length;
    state = 1;
    return needsInput;
  }
  state = 2;
  if (kind == 2) return readCodes();
  fixedCodes();
  return needsInput;
}

/** The entry of the symbol that comes first. */
// @ts-ignore: decorator
@inline
function literalAt(buffer: u64): u32 {
  return load<u32>(literalTable + ((<usize>buffer & ((1 << literalBits) - 1)) << 2));
}

/**
 * Symbols, as long as nothing can run out within one: `isDone` when the block has ended. Each round begins with 56 bits at least and the entry of the next symbol, which is looked up before a
 * match is copied: neither waits for the other. A round reads ahead three times, 7 bytes each.
 */
function fastSymbols(): i32 {
  let from = at;
  let to = out;
  let buffer = bits;
  let have = left;
  const low = lowest;
  const fromEnd = end - fastInput;
  const toEnd = begin + maxOutput - maxMatch - slack;
  buffer |= load<u64>(from) << have;
  from += (63 - have) >> 3;
  have |= 56;
  let entry = literalAt(buffer);
  let result = needsInput;
  do {
    if (entry & isLiteral) {
      buffer >>= entry;
      have -= entry & 63;
      store<u8>(to++, entry >> 16);
      entry = literalAt(buffer);
      if (entry & isLiteral) {
        buffer >>= entry;
        have -= entry & 63;
        store<u8>(to++, entry >> 16);
        entry = literalAt(buffer);
        if (entry & isLiteral) {
          buffer >>= entry;
          have -= entry & 63;
          store<u8>(to++, entry >> 16);
          buffer |= load<u64>(from) << have;
          from += (63 - have) >> 3;
          have |= 56;
          entry = literalAt(buffer);
          continue;
        }
      }
      // A length and a distance take 48 bits at most.
      buffer |= load<u64>(from) << have;
      from += (63 - have) >> 3;
      have |= 56;
    }
    if (entry & isOther) {
      if (entry & isNoCode) {
        result = isInvalid;
        break;
      }
      if (!(entry & isEnd)) {
        buffer >>= entry;
        have -= entry & 63;
        const second = (entry >> 16) + (<u32>buffer & ((1 << ((entry >> 8) & 15)) - 1));
        entry = load<u32>(literalTable + (<usize>second << 2));
        if (entry & isLiteral) {
          buffer >>= entry;
          have -= entry & 63;
          store<u8>(to++, entry >> 16);
          buffer |= load<u64>(from) << have;
          from += (63 - have) >> 3;
          have |= 56;
          entry = literalAt(buffer);
          continue;
        }
        if (entry & isNoCode) {
          result = isInvalid;
          break;
        }
      }
      if (entry & isEnd) {
        buffer >>= entry;
        have -= entry & 63;
        result = isDone;
        break;
      }
    }
    const length = <usize>((entry >> 16) + (<u32>(buffer & ((<u64>1 << entry) - 1)) >> ((entry >> 8) & 15)));
    buffer >>= entry;
    have -= entry & 63;
    entry = load<u32>(distanceTable + ((<usize>buffer & ((1 << distanceBits) - 1)) << 2));
    if (entry & isOther) {
      if (entry & isNoCode) {
        result = isInvalid;
        break;
      }
      buffer >>= entry;
      have -= entry & 63;
      entry = load<u32>(distanceTable + (<usize>((entry >> 16) + (<u32>buffer & ((1 << ((entry >> 8) & 15)) - 1))) << 2));
      if (entry & isOther) {
        result = isInvalid;
        break;
      }
    }
    const distance = <usize>((entry >> 16) + (<u32>(buffer & ((<u64>1 << entry) - 1)) >> ((entry >> 8) & 15)));
    buffer >>= entry;
    have -= entry & 63;
    if (distance > to - low) {
      result = isInvalid;
      break;
    }
    buffer |= load<u64>(from) << have;
    from += (63 - have) >> 3;
    have |= 56;
    entry = literalAt(buffer);
    copyMatch(to, distance, length);
    to += length;
  } while (from <= fromEnd && to <= toEnd);
  at = from;
  out = to;
  bits = buffer & ((<u64>1 << have) - 1);
  left = have;
  return result;
}

/** May write `slack` bytes too far. Most matches are not longer than 16, and a loop that ends after one round or two is guessed wrong by the processor. */
// @ts-ignore: decorator
@inline
function copyMatch(to: usize, distance: usize, length: usize): void {
  let source = to - distance;
  if (distance >= 8) {
    store<u64>(to, load<u64>(source));
    store<u64>(to, load<u64>(source, 8), 8);
    if (length <= 16) return;
    const stop = to + length;
    to += 16;
    source += 16;
    do {
      store<u64>(to, load<u64>(source));
      to += 8;
      source += 8;
    } while (to < stop);
  } else if (distance == 1) {
    const stop = to + length;
    const same = <u64>load<u8>(source) * 0x0101010101010101;
    do {
      store<u64>(to, same);
      to += 8;
    } while (to < stop);
  } else {
    const stop = to + length;
    do {
      store<u8>(to++, load<u8>(source++));
    } while (to < stop);
  }
}

/** One symbol where something may run out within it. `hasOutput`: it was read, and more may follow. */
function oneSymbol(isWhole: bool): i32 {
  gather();
  // There is no more input than that: 48 bits are enough for any symbol.
  if (left < 48 && !isWhole) return needsInput;
  let entry = load<u32>(literalTable + ((<usize>bits & ((1 << literalBits) - 1)) << 2));
  if ((entry & (isOther | isEnd | isNoCode)) == isOther) {
    take(entry & 63);
    entry = load<u32>(literalTable + (<usize>((entry >> 16) + (<u32>bits & ((1 << ((entry >> 8) & 15)) - 1))) << 2));
  }
  if ((entry & (isOther | isNoCode)) == (isOther | isNoCode)) return <i32>left <= 0 ? isTruncated : isInvalid;
  if (entry & isOther) {
    take(entry & 63);
    return <i32>left < 0 ? isTruncated : isDone;
  }
  if (entry & isLiteral) {
    take(entry & 63);
    if (<i32>left < 0) return isTruncated;
    store<u8>(out++, entry >> 16);
    return hasOutput;
  }
  let code = (entry >> 8) & 15;
  take(code);
  const length = <usize>((entry >> 16) + take((entry & 63) - code));
  entry = load<u32>(distanceTable + ((<usize>bits & ((1 << distanceBits) - 1)) << 2));
  if ((entry & (isOther | isNoCode)) == isOther) {
    take(entry & 63);
    entry = load<u32>(distanceTable + (<usize>((entry >> 16) + (<u32>bits & ((1 << ((entry >> 8) & 15)) - 1))) << 2));
  }
  if (<i32>left < 0) return isTruncated;
  if (entry & isOther) return isInvalid;
  code = (entry >> 8) & 15;
  take(code);
  const distance = <usize>((entry >> 16) + take((entry & 63) - code));
  if (<i32>left < 0) return isTruncated;
  if (distance > out - lowest) return isInvalid;
  copyMatch(out, distance, length);
  out += length;
  return hasOutput;
}

/** Goes on until something is missing. `isWhole`: there is no more input than what is here. After `isDone`, what is left of the input follows the stream. */
export function inflate(isWhole: bool): i32 {
  for (;;) {
    if (state == 0) {
      if (isLast) {
        giveBack();
        return isDone;
      }
      if (!isWhole && end - at < maxHead) return needsInput;
      const result = readHead();
      if (result != needsInput) return result;
    } else if (state == 1) {
      const most = min(stored, min(end - at, begin + maxOutput - out));
      memory.copy(out, at, most);
      out += most;
      at += most;
      stored -= most;
      if (stored == 0) state = 0;
      else if (at < end) return hasOutput;
      else return isWhole ? isTruncated : needsInput;
    } else {
      let result = end - at >= fastInput && out + maxMatch + slack <= begin + maxOutput ? fastSymbols() : needsInput;
      if (result == isInvalid) return result;
      while (result != isDone) {
        if (out + maxMatch > begin + maxOutput) return hasOutput;
        result = oneSymbol(isWhole);
        if (result != hasOutput && result != isDone) return result;
        if (end - at >= fastInput && out + maxMatch + slack <= begin + maxOutput && result == hasOutput) break;
      }
      if (result == isDone) state = 0;
    }
  }
  return unreachable();
}
