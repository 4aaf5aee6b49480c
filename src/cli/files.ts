/** The caller's files: reading archives, writing them without leaving halves behind. @module */
import { type FileHandle, open, rename, stat, unlink, writeFile } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { basename, dirname, join, resolve } from "node:path";
import { Readable } from "node:stream";
import type { Streamed } from "#api/client/mod.ts";
import { archiveNotes } from "#api/types/archive-notes.ts";
import { giveBack, givingBack, takePiece } from "#core/pieces.ts";
import { ExitError } from "./errors.ts";
import type { CliIo } from "./io.ts";
import { explainFileError } from "./options/file-error.ts";
import { copy, warn } from "./output.ts";

/** Opens a file of the caller's for reading. Throws ExitError when it cannot be. */
export async function openInput(io: CliIo, path: string): Promise<Readable> {
  const full = resolve(io.cwd, path);
  try {
    const file = await open(full, "r");
    if ((await file.stat()).isDirectory()) {
      await file.close();
      throw Object.assign(new Error("EISDIR"), { code: "EISDIR" });
    }
    // Closed here: a stream that nobody reads does not begin to iterate.
    return Readable.from(piecesOf(file), { objectMode: false }).once("close", () => void file.close());
  } catch (error) {
    throw new ExitError(1, explainFileError(error, "open", path).message);
  }
}

async function* piecesOf(file: FileHandle): AsyncGenerator<Buffer, void> {
  for (;;) {
    const piece = takePiece();
    const { bytesRead } = await file.read(piece, 0, piece.length, null);
    if (bytesRead === 0) return giveBack(piece);
    yield piece.subarray(0, bytesRead);
  }
}

/** Writes a stream to a file of the caller's: under another name first, so that what was there stays until all is written. Devices and pipes are written directly. */
export async function writeOutput(io: CliIo, path: string, body: Readable): Promise<void> {
  const full = resolve(io.cwd, path);
  const kind = await stat(full).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw explainFileError(error, "open", path);
  });
  if (kind?.isDirectory() === true) throw new ExitError(1, `invalid output path: ${JSON.stringify(path)} must not be a directory`);
  const direct = kind !== undefined && !kind.isFile();
  const temporary = direct ? full : join(dirname(full), `.${basename(full)}.${randomBytes(4).toString("hex")}`);
  try {
    await writeAll(temporary, 0o666 & ~io.umask, body);
    if (!direct) await rename(temporary, full);
  } catch (error) {
    if (!direct) await unlink(temporary).catch(() => {}); // perhaps it was never made; the error that counts is told
    throw explainFileError(error, "open", path);
  }
}

async function writeAll(path: string, mode: number, body: Readable): Promise<void> {
  await using file = await open(path, "w", mode);
  await writeFile(file, givingBack(body));
}

/** Tells which files of an archive that has been read were changed meanwhile: there they are cut or padded. */
export function warnOfChanges(io: Pick<CliIo, "stderr">, reply: Partial<Streamed>): void {
  for (const note of archiveNotes(reply.trailers?.() ?? {})) warn(io, `WARNING: ${note}`);
}

/** Throws Error when an archive cannot be written to a path: it lies in no directory, or is one. */
async function checkOutput(io: CliIo, path: string): Promise<void> {
  const full = resolve(io.cwd, path);
  await stat(dirname(full)).catch((error: unknown) => {
    throw new Error(`invalid output path: ${explainFileError(error, "stat", dirname(path)).message}`, { cause: error });
  });
  const there = await stat(full).catch(() => undefined); // that there is nothing is as it should be; what else is wrong is told by who writes
  if (there?.isDirectory() === true) throw new Error("cannot write to a directory");
}

/** An archive to `-o FILE`, or to stdout unless that is a terminal. `open` is called when it is clear that the output can be taken. What the daemon says of it in the end is a warning. `what` begins the errors. */
export async function archiveOut(
  io: CliIo,
  { path, what }: { readonly path: string; readonly what: string },
  open: () => Promise<Pick<Streamed, "body"> & Partial<Streamed>>,
): Promise<void> {
  if (path === "" && io.isTty.stdout) throw new ExitError(1, "cowardly refusing to save to a terminal. Use the -o flag or redirect");
  if (path !== "" && path !== "-")
    await checkOutput(io, path).catch((error: unknown) => {
      throw new ExitError(1, `${what}: ${(error as Error).message}`);
    });
  const reply = await open();
  if (path === "" || path === "-") await copy(reply.body, io.stdout);
  else await writeOutput(io, path, reply.body);
  warnOfChanges(io, reply);
}
