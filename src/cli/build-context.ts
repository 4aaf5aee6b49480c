/** What `wherry build` sends: a directory without what its ignore file names, an archive, or a Dockerfile alone. @module */
import { readFile } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { Readable } from "node:stream";
import { IgnoreRules } from "#build/frontend/ignore-file.ts";
import { errnoOf } from "#core/errors.ts";
import { endBlocks, formatHeader, padding } from "#unionfs/tar/writer.ts";
import { readTree } from "./cp-read.ts";
import { ExitError } from "./errors.ts";
import type { CliIo } from "./io.ts";
import { explainFileError } from "./options/file-error.ts";

export interface SentContext {
  readonly body: Readable | undefined;
  readonly remote: string | undefined;
  /** The Dockerfile within it. */
  readonly dockerfile: string;
}

/** A name that no file of the user's has: where a Dockerfile from elsewhere lies in what is sent. */
const outsideName = ".wherry-dockerfile";

/** @throws ExitError */
export async function openContext(io: CliIo, path: string, file: string): Promise<SentContext> {
  if (/^https?:\/\/|^git:\/\/|^ssh:\/\/|^git@/.test(path)) return { body: undefined, remote: path, dockerfile: file || "Dockerfile" };
  if (path === "-") return stdinContext(io, file);
  const root = resolve(io.cwd, path);
  const dockerfile = file === "-" ? undefined : file === "" ? join(root, "Dockerfile") : resolve(io.cwd, file);
  const text = dockerfile === undefined ? await readAll(io.stdin) : await readText(dockerfile, file);
  const within = dockerfile === undefined ? ".." : relative(root, dockerfile);
  const outside = within.startsWith("..");
  const name = outside ? outsideName : within;
  const own = dockerfile === undefined ? undefined : await readIfThere(`${dockerfile}.dockerignore`);
  const ignore = own ?? (await readIfThere(join(root, ".dockerignore")));
  const rules = IgnoreRules.parse((ignore ?? Buffer.alloc(0)).toString("utf8"));
  // The engine reads these two, and leaves out of the build what they say.
  const kept = new Set([name, ".dockerignore", `${name}.dockerignore`]);
  const extra: [string, Uint8Array][] = outside ? [[name, text], ...(own === undefined ? [] : [[`${name}.dockerignore`, own] as [string, Uint8Array]])] : [];
  const skip = (at: string, isDirectory: boolean) =>
    !kept.has(at) && rules.ignores(at) && !(isDirectory && (rules.hasExceptions || [...kept].some((k) => k.startsWith(`${at}/`))));
  return { body: Readable.from(withFiles(extra, readTree(root, "", skip)), { objectMode: false }), remote: undefined, dockerfile: name };
}

/** An archive as it is; anything else is a Dockerfile. */
async function stdinContext(io: CliIo, file: string): Promise<SentContext> {
  if (io.isTty.stdin) throw new ExitError(1, "stdin is a terminal: an archive or a Dockerfile is expected there");
  if (file === "-") throw new ExitError(1, "invalid argument: can't use stdin for both build context and dockerfile");
  const iterator = io.stdin[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let head: Buffer = Buffer.alloc(0);
  let ended = false;
  while (head.length < 512 && !ended) {
    const next = await iterator.next();
    if (next.done === true) ended = true;
    else head = Buffer.concat([head, next.value]);
  }
  async function* all(): AsyncGenerator<Uint8Array> {
    yield head;
    if (!ended) for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value;
  }
  if (looksLikeArchive(head)) return { body: Readable.from(all(), { objectMode: false }), remote: undefined, dockerfile: file || "Dockerfile" };
  const chunks: Uint8Array[] = [];
  for await (const chunk of all()) chunks.push(chunk);
  return {
    body: Readable.from(withFiles([["Dockerfile", Buffer.concat(chunks)]], empty()), { objectMode: false }),
    remote: undefined,
    dockerfile: "Dockerfile",
  };
}

function looksLikeArchive(head: Buffer): boolean {
  const starts = (...bytes: number[]) => bytes.every((byte, i) => head[i] === byte);
  return (
    starts(0x1f, 0x8b) ||
    starts(0x28, 0xb5, 0x2f, 0xfd) ||
    starts(0x42, 0x5a, 0x68) ||
    starts(0xfd, 0x37, 0x7a, 0x58, 0x5a) ||
    head.toString("latin1", 257, 262) === "ustar"
  );
}

async function* empty(): AsyncGenerator<Uint8Array> {
  yield endBlocks();
}

async function* withFiles(files: readonly (readonly [string, Uint8Array])[], rest: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for (const [name, bytes] of files) {
    yield formatHeader({ name, type: "file", linkname: "", mode: 0o600, uid: 0, gid: 0, size: bytes.length, mtimeNs: 0n, major: 0, minor: 0, xattrs: [] });
    yield bytes;
    yield padding(bytes.length);
  }
  yield* rest;
}

async function readAll(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function readText(path: string, asked: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    if (errnoOf(error) === "ENOENT")
      throw new ExitError(1, `unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat ${path}: no such file or directory`);
    throw new ExitError(1, explainFileError(error, "open", asked || path).message);
  }
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw new ExitError(1, explainFileError(error, "open", path).message);
  }
}
