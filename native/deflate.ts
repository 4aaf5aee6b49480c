// Deflate (RFC 1951) of one piece of at most 1 MiB, for layers that are pushed. AssemblyScript: TypeScript's syntax, compiled to WebAssembly by scripts/gen-wasm.mjs. Docs: docs/adr/0086.
//
// Greedy matching with one candidate for each hash of four bytes; longer steps the longer nothing has matched, so that what is compressed already costs next to nothing;
// a Huffman code for each 128 KiB, or the bytes as they are where no code makes them fewer. The output depends on the input only: not on the processor, not on what was
// compressed before. All memory is laid out here: no allocator, no bounds checks. What the tables need is proved where they are laid out.

/** Longest input, bytes. */
const maxInput: i32 = 1 << 20;
/** Input bytes that share one Huffman code. */
const blockBytes: i32 = 1 << 17;
const hashBits: u32 = 16;
/** Longest code of a literal, length or distance. Four literals, or a length and a distance with their extra bits, go to the 64-bit buffer before it is flushed: 7 + 4 × 14 = 63. */
const maxCodeBits: i32 = 14;
const maxMatch: u32 = 258;
const window: usize = 32768;
const literals: i32 = 286;
const distances: i32 = 30;
const endOfBlock: i32 = 256;

/** The order of RFC 1951 3.2.7. The compiler puts it below the address 4096. */
const codeOrder: usize = memory.data<u8>([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]);
// Tables that never change. What lies at each address stands on the right.
const lengthSlots: usize = 4096; //                             u8[259]: length → its symbol - 257
const lengthExtra: usize = lengthSlots + 264; //                u8[29]: extra bits
const lengthBase: usize = lengthExtra + 32; //                  u16[29]: shortest length
const distanceSlots: usize = lengthBase + 64; //                u8[512]: distances up to 256 less one, then by 128
const distanceBase: usize = distanceSlots + 512; //             u16[30]
const distanceExtra: usize = distanceBase + 64; //              u8[30]
// Of the block in hand.
const literalCounts: usize = distanceExtra + 32; //             u32[286]
const distanceCounts: usize = literalCounts + 1152; //          u32[30]
const runCounts: usize = distanceCounts + 128; //               u32[19]
const literalLengths: usize = runCounts + 128; //               u8[286]: bits of each code
const distanceLengths: usize = literalLengths + 288; //         u8[30]
const runLengths: usize = distanceLengths + 32; //              u8[19]
const literalCodes: usize = runLengths + 32; //                 u16[286]
const distanceCodes: usize = literalCodes + 576; //             u16[30]
const runCodes: usize = distanceCodes + 64; //                  u16[19]
const literalTable: usize = runCodes + 64; //                   u32[256]: code | bits << 16
const lengthTable: usize = literalTable + 1024; //              u32[259]: code and extra bits | bits << 24
const sorted: usize = lengthTable + 1040; //                    u64[286]: count << 16 | symbol
const tree: usize = sorted + 2304; //                           u32[286]
const perLength: usize = tree + 1152; //                        u32[64]: codes of each length
const nextCode: usize = perLength + 256; //                     u32[16]
const described: usize = nextCode + 64; //                      u8[316]: both codes' lengths in a row
const runs: usize = described + 320; //                         u16[316]: symbol | repeats << 5
// A match takes at least four bytes: a block has no more tokens than this.
const tokens: usize = 65536; //                                 u64: literals before it (18 bits), length (9), distance's symbol (5), its extra bits (13)
const table: usize = tokens + (blockBytes / 4 + 1) * 8; //      u32: the last address with this hash
const input: usize = table + (1 << hashBits) * 4; //            u8[maxInput], and 64 bytes that may be anything: comparisons read beyond the end, and gzip's header goes there
const output: usize = input + maxInput + 64; //                 u8[maxInput + 1024]: stored bytes have 5 more for each 64 KiB; gzip's trailer
/** Bytes of all that. */
export const memoryBytes: usize = output + maxInput + 1024;
/** Where the input is expected. */
export const inputAddress: usize = input;
/** Where the result is. */
export const outputAddress: usize = output;

let out: usize = 0;
let buffer: u64 = 0;
/** Bits in the buffer; fewer than eight after each flush. */
let used: u64 = 0;

/** Once, before anything else. */
export function prepare(): void {
  let base: i32 = 3;
  for (let slot = 0; slot < 28; slot++) {
    const extra = slot < 8 ? 0 : (slot >> 2) - 1;
    store<u8>(lengthExtra + slot, <u8>extra);
    store<u16>(lengthBase + (slot << 1), <u16>base);
    for (let length = base; length < base + (1 << extra); length++) store<u8>(lengthSlots + length, <u8>slot);
    base += 1 << extra;
  }
  // The longest has a symbol without extra bits.
  store<u16>(lengthBase + (28 << 1), 258);
  store<u8>(lengthSlots + 258, 28);
  base = 1;
  for (let slot = 0; slot < distances; slot++) {
    const extra = slot < 4 ? 0 : (slot >> 1) - 1;
    store<u16>(distanceBase + (slot << 1), <u16>base);
    store<u8>(distanceExtra + slot, <u8>extra);
    for (let distance = base; distance < base + (1 << extra); distance++) store<u8>(distanceSlot(distance), <u8>slot);
    base += 1 << extra;
  }
}

/** Compresses `length` bytes at the input's address; returns how many there are at the output's. */
export function deflate(length: i32): usize {
  out = output;
  buffer = 0;
  used = 0;
  // No address of the input is as near to zero as the window is wide.
  memory.fill(table, 0, (1 << hashBits) * 4);
  let from = 0;
  do {
    const to = min(length, from + blockBytes);
    writeBlock(from, to, findMatches(from, to, length), to == length);
    from = to;
  } while (from < length);
  if (used > 0) put(0, 8 - used);
  return out - output;
}

/** Fills `tokens` and the counts of lengths and distances; returns the tokens' end. */
function findMatches(from: i32, to: i32, length: i32): usize {
  memory.fill(literalCounts + (endOfBlock << 2), 0, (literals - endOfBlock) << 2);
  memory.fill(distanceCounts, 0, distances << 2);
  const end: usize = input + to;
  // A match needs four bytes of the block, and what is hashed behind it some more of the input.
  const limit: usize = input + max(from, min(to - 3, length - 12));
  let token = tokens;
  let at: usize = input + from;
  let pending = at;
  while (at < limit) {
    const four = load<u32>(at);
    const bucket = bucketOf(four);
    let candidate: usize = load<u32>(bucket);
    store<u32>(bucket, <u32>at);
    if (at - candidate > window || load<u32>(candidate) != four) {
      at += 1 + ((at - pending) >> 6);
      continue;
    }
    const farthest = min(end, at + maxMatch);
    let stop = at + 4;
    for (let other = candidate + 4; stop < farthest; other += 8) {
      const difference = load<u64>(stop) ^ load<u64>(other);
      if (difference != 0) {
        stop += <usize>(ctz(difference) >> 3);
        break;
      }
      stop += 8;
    }
    stop = min(stop, farthest);
    while (at > pending && candidate > input && load<u8>(at - 1) == load<u8>(candidate - 1) && stop - at < maxMatch) {
      at--;
      candidate--;
    }
    const distance = <u32>(at - candidate);
    const slot = <usize>load<u8>(distanceSlot(distance));
    const extra = <u64>(distance - load<u16>(distanceBase + (slot << 1)));
    store<u64>(token, <u64>(at - pending) | (<u64>(stop - at) << 18) | (<u64>slot << 27) | (extra << 32));
    token += 8;
    count(literalCounts, 257 + <usize>load<u8>(lengthSlots + (stop - at)));
    count(distanceCounts, slot);
    if (stop < limit) {
      store<u32>(bucketOf(load<u32>(at + 1)), <u32>(at + 1));
      store<u32>(bucketOf(load<u32>(stop - 2)), <u32>(stop - 2));
    }
    at = pending = stop;
  }
  return token;
}

function writeBlock(from: i32, to: i32, tokensEnd: usize, last: bool): void {
  countLiterals(from, to, tokensEnd);
  assignLengths(literalCounts, literals, maxCodeBits, literalLengths);
  assignLengths(distanceCounts, distances, maxCodeBits, distanceLengths);
  // A block without matches still has a code for distances.
  if (tokensEnd == tokens) store<u8>(distanceLengths, 1);
  let bits: u32 = 0;
  for (let i = 0; i < literals; i++) {
    const each = <u32>load<u8>(literalLengths + i) + (i > endOfBlock ? <u32>load<u8>(lengthExtra + i - 257) : 0);
    bits += load<u32>(literalCounts + (i << 2)) * each;
  }
  for (let i = 0; i < distances; i++) bits += load<u32>(distanceCounts + (i << 2)) * (<u32>load<u8>(distanceLengths + i) + load<u8>(distanceExtra + i));
  // The codes' description takes some 80 bytes.
  if (<i32>(bits >> 3) + 80 > to - from) return writeStored(from, to, last);
  assignCodes(literalLengths, literals, literalCodes);
  assignCodes(distanceLengths, distances, distanceCodes);
  writeCodes(last);
  writeTokens(from, to, tokensEnd);
}

function countLiterals(from: i32, to: i32, tokensEnd: usize): void {
  memory.fill(literalCounts, 0, 256 << 2);
  store<u32>(literalCounts + (endOfBlock << 2), 1);
  let at: usize = input + from;
  for (let token = tokens; token < tokensEnd; token += 8) {
    const packed = load<u64>(token);
    for (const stop = at + <usize>(packed & 0x3ffff); at < stop; at++) count(literalCounts, load<u8>(at));
    at += <usize>((packed >> 18) & 511);
  }
  for (const stop: usize = input + to; at < stop; at++) count(literalCounts, load<u8>(at));
}

/** Bytes as they are, 65,535 at most behind each header. */
function writeStored(from: i32, to: i32, last: bool): void {
  let at = from;
  do {
    const length = min(65535, to - at);
    put(last && at + length == to ? 1 : 0, 3);
    if (used > 0) put(0, 8 - used);
    store<u16>(out, <u16>length);
    store<u16>(out + 2, <u16>(length ^ 0xffff));
    memory.copy(out + 4, input + at, length);
    out += 4 + length;
    at += length;
  } while (at < to);
}

/** The block's header: both codes' lengths, shortened by runs and then by a code of their own. @see RFC 1951 3.2.7 */
function writeCodes(last: bool): void {
  const shown = trimmed(literalLengths, literals, 257);
  const shownDistances = trimmed(distanceLengths, distances, 1);
  memory.copy(described, literalLengths, shown);
  memory.copy(described + shown, distanceLengths, shownDistances);
  memory.fill(runCounts, 0, 19 << 2);
  const runsEnd = findRuns(described + shown + shownDistances);
  for (let run = runs; run < runsEnd; run += 2) count(runCounts, load<u16>(run) & 31);
  assignLengths(runCounts, 19, 7, runLengths);
  assignCodes(runLengths, 19, runCodes);
  let shownRuns = 19;
  while (shownRuns > 4 && load<u8>(runLengths + load<u8>(codeOrder + shownRuns - 1)) == 0) shownRuns--;
  put((last ? 1 : 0) | (2 << 1), 3);
  put((shown - 257) | ((shownDistances - 1) << 5) | ((shownRuns - 4) << 10), 14);
  for (let i = 0; i < shownRuns; i++) put(load<u8>(runLengths + load<u8>(codeOrder + i)), 3);
  for (let run = runs; run < runsEnd; run += 2) {
    const symbol = <usize>(load<u16>(run) & 31);
    put(load<u16>(runCodes + (symbol << 1)), load<u8>(runLengths + symbol));
    if (symbol >= 16) put(load<u16>(run) >> 5, symbol == 16 ? 2 : symbol == 17 ? 3 : 7);
  }
}

/** Symbols up to the last that has a code, but not fewer than `least`. */
function trimmed(lengths: usize, symbols: i32, least: i32): i32 {
  let shown = symbols;
  while (shown > least && load<u8>(lengths + shown - 1) == 0) shown--;
  return shown;
}

function findRuns(end: usize): usize {
  let run = runs;
  for (let at = described; at < end; ) {
    const value = load<u8>(at);
    let repeats: i32 = 0;
    for (; at < end && load<u8>(at) == value; at++) repeats++;
    if (value != 0) {
      run = addRun(run, value);
      for (repeats--; repeats >= 3; repeats -= min(6, repeats)) run = addRun(run, 16 | ((min(6, repeats) - 3) << 5));
    } else {
      for (; repeats >= 11; repeats -= min(138, repeats)) run = addRun(run, 18 | ((min(138, repeats) - 11) << 5));
      if (repeats >= 3) {
        run = addRun(run, 17 | ((repeats - 3) << 5));
        repeats = 0;
      }
    }
    for (; repeats > 0; repeats--) run = addRun(run, value);
  }
  return run;
}

function addRun(run: usize, value: u32): usize {
  store<u16>(run, <u16>value);
  return run + 2;
}

function writeTokens(from: i32, to: i32, tokensEnd: usize): void {
  for (let i = 0; i < 256; i++) store<u32>(literalTable + (i << 2), <u32>load<u16>(literalCodes + (i << 1)) | (<u32>load<u8>(literalLengths + i) << 16));
  for (let length: u32 = 3; length <= maxMatch; length++) {
    const slot = <usize>load<u8>(lengthSlots + length);
    const bits = <u32>load<u8>(literalLengths + 257 + slot);
    const code = <u32>load<u16>(literalCodes + ((257 + slot) << 1)) | ((length - load<u16>(lengthBase + (slot << 1))) << bits);
    store<u32>(lengthTable + (length << 2), code | ((bits + load<u8>(lengthExtra + slot)) << 24));
  }
  // In locals: a global is written to memory each time.
  let to64 = out;
  let held = buffer;
  let bits = used;
  let at: usize = input + from;
  for (let token = tokens; ; token += 8) {
    const packed = token < tokensEnd ? load<u64>(token) : <u64>(input + to - at);
    const stop = at + <usize>(packed & 0x3ffff);
    for (; at + 3 < stop; at += 4) {
      for (let i: usize = 0; i < 4; i++) {
        const entry = <u64>load<u32>(literalTable + (<usize>load<u8>(at + i) << 2));
        held |= (entry & 0xffff) << bits;
        bits += entry >> 16;
      }
      store<u64>(to64, held);
      to64 += <usize>(bits >> 3);
      held >>= bits & 56;
      bits &= 7;
    }
    for (; at < stop; at++) {
      const entry = <u64>load<u32>(literalTable + (<usize>load<u8>(at) << 2));
      held |= (entry & 0xffff) << bits;
      bits += entry >> 16;
    }
    store<u64>(to64, held);
    to64 += <usize>(bits >> 3);
    held >>= bits & 56;
    bits &= 7;
    if (token >= tokensEnd) break;
    const length = <usize>((packed >> 18) & 511);
    at += length;
    const entry = <u64>load<u32>(lengthTable + (length << 2));
    held |= (entry & 0xffffff) << bits;
    bits += entry >> 24;
    const slot = <usize>((packed >> 27) & 31);
    held |= <u64>load<u16>(distanceCodes + (slot << 1)) << bits;
    bits += load<u8>(distanceLengths + slot);
    held |= (packed >> 32) << bits;
    bits += load<u8>(distanceExtra + slot);
    store<u64>(to64, held);
    to64 += <usize>(bits >> 3);
    held >>= bits & 56;
    bits &= 7;
  }
  out = to64;
  buffer = held;
  used = bits;
  put(load<u16>(literalCodes + (endOfBlock << 1)), load<u8>(literalLengths + endOfBlock));
}

/** Bits of each symbol's code, at most `limit`. @see Moffat, Katajainen: In-place calculation of minimum-redundancy codes (1995) */
function assignLengths(counts: usize, symbols: i32, limit: i32, lengths: usize): void {
  memory.fill(lengths, 0, symbols);
  const present = sortPresent(counts, symbols);
  if (present == 0) return;
  if (present == 1) return store<u8>(lengths + <usize>(load<u64>(sorted) & 0xffff), 1);
  buildTree(present);
  countLengths(present, limit);
  // A code that is too long is made room for by lengthening the next shorter one.
  let total: i32 = 0;
  for (let length = 1; length <= limit; length++) total += load<i32>(perLength + (length << 2)) << (limit - length);
  for (; total > 1 << limit; total--) {
    let length = limit - 1;
    while (load<i32>(perLength + (length << 2)) == 0) length--;
    change(perLength, limit, -1);
    change(perLength, length, -1);
    change(perLength, length + 1, 2);
  }
  // The rarest come first in the order, and have the longest codes.
  let next = present;
  for (let length = 1; length <= limit; length++) {
    for (let n = load<i32>(perLength + (length << 2)); n > 0; n--) store<u8>(lengths + <usize>(load<u64>(sorted + (--next << 3)) & 0xffff), <u8>length);
  }
}

/** Symbols that occur, by count and then by number (so the result is one for all); returns how many. */
function sortPresent(counts: usize, symbols: i32): i32 {
  let present = 0;
  for (let i = 0; i < symbols; i++) {
    const n = <u64>load<u32>(counts + (i << 2));
    if (n > 0) store<u64>(sorted + (present++ << 3), (n << 16) | i);
  }
  for (let gap = 57; gap > 0; gap = gap == 57 ? 23 : gap == 23 ? 10 : gap == 10 ? 4 : gap == 4 ? 1 : 0) {
    for (let i = gap; i < present; i++) {
      const one = load<u64>(sorted + (i << 3));
      let j = i;
      for (; j >= gap && load<u64>(sorted + ((j - gap) << 3)) > one; j -= gap) store<u64>(sorted + (j << 3), load<u64>(sorted + ((j - gap) << 3)));
      store<u64>(sorted + (j << 3), one);
    }
  }
  return present;
}

function buildTree(present: i32): void {
  for (let i = 0; i < present; i++) store<u32>(tree + (i << 2), <u32>(load<u64>(sorted + (i << 3)) >> 16));
  store<u32>(tree, at32(tree, 0) + at32(tree, 1));
  let root = 0;
  let leaf = 2;
  for (let next = 1; next < present - 1; next++) {
    let weight: u32 = 0;
    for (let child = 0; child < 2; child++) {
      if (leaf >= present || (root < next && at32(tree, root) < at32(tree, leaf))) {
        weight += at32(tree, root);
        store<u32>(tree + (root++ << 2), next);
      } else weight += at32(tree, leaf++);
    }
    store<u32>(tree + (next << 2), weight);
  }
  // From parents to depths.
  store<u32>(tree + ((present - 2) << 2), 0);
  for (let next = present - 3; next >= 0; next--) store<u32>(tree + (next << 2), at32(tree, at32(tree, next)) + 1);
}

function countLengths(present: i32, limit: i32): void {
  memory.fill(perLength, 0, 256);
  let root = present - 2;
  let depth = 0;
  for (let available = 1; available > 0; depth++) {
    let inner = 0;
    for (; root >= 0 && at32(tree, root) == depth; root--) inner++;
    change(perLength, min(depth, limit), available - inner);
    available = 2 * inner;
  }
}

/** The codes of these lengths, first bit lowest. @see RFC 1951 3.2.2 */
function assignCodes(lengths: usize, symbols: i32, codes: usize): void {
  memory.fill(perLength, 0, 256);
  for (let i = 0; i < symbols; i++) count(perLength, load<u8>(lengths + i));
  store<u32>(perLength, 0);
  let first: u32 = 0;
  for (let length = 1; length <= 15; length++) {
    first = (first + at32(perLength, length - 1)) << 1;
    store<u32>(nextCode + (length << 2), first);
  }
  for (let i = 0; i < symbols; i++) {
    const length = load<u8>(lengths + i);
    if (length == 0) continue;
    let code = at32(nextCode, length);
    count(nextCode, length);
    let reversed: u32 = 0;
    for (let bit: u8 = 0; bit < length; bit++) {
      reversed = (reversed << 1) | (code & 1);
      code >>= 1;
    }
    store<u16>(codes + (i << 1), <u16>reversed);
  }
}

function put(bits: u32, length: u64): void {
  buffer |= <u64>bits << used;
  used += length;
  store<u64>(out, buffer);
  out += <usize>(used >> 3);
  buffer >>= used & 56;
  used &= 7;
}

function bucketOf(four: u32): usize {
  return table + (<usize>((four * 0x9e3779b1) >> (32 - hashBits)) << 2);
}

function distanceSlot(distance: u32): usize {
  return distanceSlots + (distance <= 256 ? <usize>distance - 1 : 256 + ((<usize>distance - 1) >> 7));
}

function at32(base: usize, i: i32): u32 {
  return load<u32>(base + (i << 2));
}

function count(base: usize, i: usize): void {
  store<u32>(base + (i << 2), load<u32>(base + (i << 2)) + 1);
}

function change(base: usize, i: i32, by: i32): void {
  store<i32>(base + (i << 2), load<i32>(base + (i << 2)) + by);
}
