/** What `wherry build` sends: a directory without what its ignore file names, an archive, or a Dockerfile alone. @module */
import { readFile, stat } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { Readable } from "node:stream";
import { contextPlace } from "#api/types/build-context.ts";
import type { LocalContext } from "#api/types/transport.ts";
import { IgnoreRules } from "#build/frontend/ignore-file.ts";
import { errnoOf } from "#core/errors.ts";
import { endBlocks, formatHeader, padding } from "#unionfs/tar/writer.ts";
import { readTree } from "./cp-read.ts";
import { ExitError } from "./errors.ts";
import type { CliIo } from "./io.ts";
import { explainFileError } from "./options/file-error.ts";

export interface SentContext {
  readonly body: Readable | undefined;
  /** Of an engine in this process: the same directory, which it reads itself. */
  readonly directory?: LocalContext;
  readonly remote: string | undefined;
  /** The Dockerfile within it. */
  readonly dockerfile: string;
}

/** A name that no file of the user's has: where a Dockerfile from elsewhere lies in what is sent. */
const outsideName = ".wherry-dockerfile";

export interface ContextWanted {
  readonly path: string;
  /** Of the Dockerfile; "" = in the context. */
  readonly file: string;
  /** The engine is in this process. */
  readonly isDirect: boolean;
  /** Further directories by name, absolute. */
  readonly named: Readonly<Record<string, string>>;
  /** Sockets of SSH agents by id, absolute. */
  readonly agents: Readonly<Record<string, string>>;
}

/** @throws ExitError */
export async function openContext(io: CliIo, { path, file, isDirect, named, agents }: ContextWanted): Promise<SentContext> {
  const names = Object.keys(named);
  const place = contextPlace(path);
  const isLocal = path !== "-" && place.kind === "path";
  if (names.length > 0 && !(isDirect && isLocal))
    throw new ExitError(1, `the build context ${names[0]} is a directory: only a local engine that builds from a directory reads it`);
  if (Object.keys(agents).length > 0 && !(isDirect && isLocal))
    throw new ExitError(1, "an SSH agent is reached only by a local engine that builds from a directory");
  if (place.kind === "url") return { body: undefined, remote: path, dockerfile: file || "Dockerfile" };
  if (path === "-") return stdinContext(io, file);
  const { root, dockerfile, bytes: text, own, ignore } = await readDirectory(io, path, file);
  const within = dockerfile === undefined ? ".." : relative(root, dockerfile);
  const outside = within.startsWith("..");
  const name = outside ? outsideName : within;
  const rules = IgnoreRules.parse(ignore);
  // The engine reads these two, and leaves out of the build what they say.
  const kept = new Set([name, ".dockerignore", `${name}.dockerignore`]);
  const extra: [string, Uint8Array][] = outside ? [[name, text], ...(own === undefined ? [] : [[`${name}.dockerignore`, own] as [string, Uint8Array]])] : [];
  const skip = (at: string, isDirectory: boolean) =>
    !kept.has(at) && rules.ignores(at) && !(isDirectory && (rules.hasExceptions || [...kept].some((k) => k.startsWith(`${at}/`))));
  const directory = { path: root, dockerfile: text.toString("utf8"), ignore, named, agents };
  if (isDirect) return { body: undefined, directory, remote: undefined, dockerfile: name };
  return { body: Readable.from(withFiles(extra, readTree(root, "", skip)), { objectMode: false }), remote: undefined, dockerfile: name };
}

interface DirectoryRead {
  readonly root: string;
  /** undefined: it came from standard input. */
  readonly dockerfile: string | undefined;
  /** The Dockerfile's. */
  readonly bytes: Buffer;
  /** The ignore file of the Dockerfile's own. */
  readonly own: Buffer | undefined;
  /** Text of the ignore file that counts. */
  readonly ignore: string;
}

/** What decides about a directory's build. @throws ExitError */
export async function readDirectory(io: CliIo, path: string, file: string): Promise<DirectoryRead> {
  const root = resolve(io.cwd, path);
  await checkDirectory(root, path);
  const dockerfile = file === "-" ? undefined : file === "" ? join(root, "Dockerfile") : resolve(io.cwd, file);
  const bytes = dockerfile === undefined ? await readAll(io.stdin) : await readText(dockerfile, file);
  const own = dockerfile === undefined ? undefined : await readIfThere(`${dockerfile}.dockerignore`);
  const ignore = own ?? (await readIfThere(join(root, ".dockerignore")));
  return { root, dockerfile, bytes, own, ignore: (ignore ?? Buffer.alloc(0)).toString("utf8") };
}

async function checkDirectory(root: string, asked: string): Promise<void> {
  const found = await stat(root).catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR")
      throw new ExitError(1, `unable to prepare context: path ${JSON.stringify(asked)} not found`);
    throw new ExitError(1, explainFileError(error, "stat", asked).message);
  });
  if (!found.isDirectory()) throw new ExitError(1, `unable to prepare context: context must be a directory: ${root}`);
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
