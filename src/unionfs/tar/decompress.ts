import { spawn } from "node:child_process";
import { pipeline, Readable } from "node:stream";
import { EngineError, errnoOf } from "#core/errors.ts";
import { corrupt } from "../bytes.ts";
import { gunzip } from "./inflate.ts";
import { unzstd } from "./zstd.ts";

export type Compression = "none" | "gzip" | "zstd" | "bzip2" | "xz";

/** Recognizes a compression by its first bytes (6 suffice). */
export function detectCompression(head: Uint8Array): Compression {
  const starts = (...bytes: number[]) => head.length >= bytes.length && bytes.every((byte, i) => head[i] === byte);
  if (starts(0x1f, 0x8b)) return "gzip";
  // A zstd frame, or a skippable one (0x184D2A50 to 5F) as pzstd puts in front.
  if (starts(0x28, 0xb5, 0x2f, 0xfd)) return "zstd";
  if (head.length >= 4 && (head[0]! & 0xf0) === 0x50 && head[1] === 0x2a && head[2] === 0x4d && head[3] === 0x18) return "zstd";
  if (starts(0x42, 0x5a, 0x68)) return "bzip2";
  if (starts(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00)) return "xz";
  return "none";
}

/**
 * A tar stream that may be compressed → the plain one. Damaged data is an EngineError "corrupt". bzip2 and xz are read by the programs of these names; "unsupported" where they are
 * not installed. `lent`: a piece, of the source as well as of the result, is needed only until the next but one is asked for. `hashed`: as for {@link gunzip}.
 */
export async function* decompress(
  source: AsyncIterable<Uint8Array>,
  { lent = false, hashed = false }: { readonly lent?: boolean; readonly hashed?: boolean } = {},
): AsyncIterable<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]();
  let head: Buffer = Buffer.alloc(0);
  let ended = false;
  while (head.length < 6 && !ended) {
    const { done, value } = await iterator.next();
    if (done === true) ended = true;
    else head = head.length === 0 ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : Buffer.concat([head, value]);
  }
  const whole = withHead(head, ended ? undefined : iterator);
  const compression = detectCompression(head);
  if (compression === "none") yield* whole;
  else if (compression === "gzip") yield* lent ? gunzip(whole, { hashed }) : copied(gunzip(whole, { hashed }));
  else if (compression === "zstd") yield* unzstd(whole, lent);
  else yield* byProgram(compression, lent ? copied(whole) : whole);
}

/** The program reads what is given and nothing else: no file, no argument of anybody's. */
async function* byProgram(program: "bzip2" | "xz", source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const child = spawn(program, ["-dc"], { stdio: ["pipe", "pipe", "pipe"], env: { PATH: process.env["PATH"] ?? "", LC_ALL: "C" }, cwd: "/" });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (said = (said + text).slice(0, 500)));
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  // Awaited below; until then a failure must not count as unhandled.
  ended.catch(() => undefined);
  let fault: unknown;
  pipeline(Readable.from(source, { objectMode: false }), child.stdin, (error) => {
    // A program that ends early closes its input: what it says counts then.
    if (error !== null && error !== undefined && error.code !== "EPIPE") fault = error;
  });
  try {
    for await (const chunk of child.stdout) yield chunk as Buffer;
    const code = await ended.catch((error: unknown) => {
      if (errnoOf(error) !== "ENOENT") throw error;
      throw new EngineError("unsupported", `the archive is compressed with ${program}, and the program ${program} is not installed here`, { cause: error });
    });
    if (fault !== undefined) throw fault;
    if (code !== 0) throw corrupt(`invalid ${program} data: ${said.trim() || `${program} ended with ${code}`}`);
  } finally {
    child.kill("SIGKILL");
  }
}

async function* withHead(head: Buffer, rest: AsyncIterator<Uint8Array> | undefined): AsyncIterable<Uint8Array> {
  try {
    if (head.length > 0) yield head;
    if (rest === undefined) return;
    for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
  } finally {
    await rest?.return?.();
  }
}

/** Copies of pieces whose memory will be used again. */
async function* copied(pieces: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  for await (const piece of pieces) yield Buffer.from(piece);
}
