/** `wherry cp`: files between a container and here, as tar archives. @module */
import { lstat, readlink, realpath, stat } from "node:fs/promises";
import { posix } from "node:path";
import { type Call, type Command, command } from "./command.ts";
import { type CopyEnd, base, followed, keepEnd, localPath, place, renamed, splitArgument, splitEntry } from "./cp-paths.ts";
import { readTree } from "./cp-read.ts";
import { writeTree } from "./cp-write.ts";
import { containerPath } from "./each.ts";
import { ExitError, isStatus } from "./errors.ts";
import { onOff } from "./flags.ts";
import { humanSize } from "./format/human.ts";
import { warnOfChanges } from "./files.ts";
import { explainFileError } from "./options/file-error.ts";
import { copy, warn } from "./output.ts";

export const cpCommand: Command = command({
  usage: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\twherry cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
  about: "Copy files between a container and here",
  examples: [
    ["cp web:/etc/nginx ./nginx", "a directory, out"],
    ["cp site/. web:/var/www", "what is in a directory, in"],
    ["cp web:/var/log - | tar t", "as a tar archive"],
  ],
  flags: [
    onOff("archive,a", "What is made belongs to the container's user"),
    onOff("follow-link,L", "Follow symbolic links in SRC_PATH"),
    onOff("quiet,q", "Do not tell what was copied (the default without a terminal)"),
  ],
  arity: [2, 2],
  run: async (call) => {
    const [from = "", to = ""] = call.args;
    if (from === "") throw new ExitError(1, "source can not be empty");
    if (to === "") throw new ExitError(1, "destination can not be empty");
    const [source, destination] = [splitArgument(from), splitArgument(to)];
    if (source.container !== undefined && destination.container !== undefined) throw new ExitError(1, "copying between containers is not supported");
    if (source.container !== undefined) await copyOut(call, { container: source.container, path: source.path }, destination.path);
    else if (destination.container !== undefined) await copyIn(call, source.path, { container: destination.container, path: destination.path });
    else throw new ExitError(1, "must specify at least one container source");
    return 0;
  },
});

interface InContainer {
  readonly container: string;
  readonly path: string;
}

interface PathStat {
  readonly mode: number;
  readonly linkTarget: string;
}

/** Bits of Go's os.FileMode. */
const bit = (mode: number, n: number): boolean => Math.floor(mode / 2 ** n) % 2 === 1;
const isDirectory = ({ mode }: PathStat): boolean => bit(mode, 31);
const isLink = ({ mode }: PathStat): boolean => bit(mode, 27);
const isDevice = ({ mode }: PathStat): boolean => bit(mode, 26);

function parseStat(headers: Readonly<Record<string, string>>): PathStat {
  const text = headers["x-docker-container-path-stat"];
  if (text === undefined) throw new Error("the daemon does not tell what the path is");
  return JSON.parse(Buffer.from(text, "base64").toString("utf8")) as PathStat; // the daemon's own header
}

/** undefined: it cannot be told; the copy itself will say why. */
async function statInContainer({ client, io }: Call, { container, path }: InContainer): Promise<PathStat | undefined> {
  try {
    const reply = await client.stream("HEAD", containerPath(container, "/archive"), { query: { path }, signal: io.gone });
    reply.body.destroy();
    return parseStat(reply.headers);
  } catch (error) {
    if (isStatus(error, 404) || isStatus(error, 400) || isStatus(error, 500)) return undefined;
    throw error;
  }
}

/** A link's target, seen from the link. */
function targetOf(path: string, { linkTarget }: PathStat): string {
  return linkTarget.startsWith("/") ? linkTarget : posix.join(splitEntry(path).directory, linkTarget);
}

async function copyOut(call: Call, { container, path }: InContainer, to: string): Promise<void> {
  const { client, flags, io } = call;
  const local = to === "-" ? "-" : localPath(io.cwd, to);
  if (local !== "-") await checkOutput(local);
  let source: Pick<CopyEnd, "path" | "rebase"> = { path };
  if (flags.on("follow-link")) {
    const found = await statInContainer(call, { container, path });
    if (found !== undefined && isLink(found)) source = followed(path, targetOf(path, found));
  }
  const reply = await client.stream("GET", containerPath(container, "/archive"), { query: { path: source.path }, signal: io.gone });
  try {
    if (local === "-") {
      await copy(reply.body, io.stdout);
      return warnOfChanges(io, reply);
    }
    const placement = place({ ...source, exists: true, isDir: isDirectory(parseStat(reply.headers)) }, await localDestination(local));
    // With a followed link, entries come under the target's name.
    const names =
      source.rebase === undefined ? placement : { ...placement, rename: { from: splitEntry(source.path).base, to: placement.rename?.to ?? source.rebase } };
    let bytes = 0;
    await writeTree(
      counted(reply.body, (n) => (bytes += n)),
      names,
    );
    warnOfChanges(io, reply);
    tell(call, bytes, local);
  } finally {
    reply.body.destroy();
  }
}

async function copyIn(call: Call, from: string, { container, path }: InContainer): Promise<void> {
  const { client, flags, io } = call;
  const found = await statInContainer(call, { container, path });
  const target = found !== undefined && isLink(found) ? targetOf(path, found) : path;
  const there = target === path ? found : await statInContainer(call, { container, path: target });
  if (there !== undefined && isDevice(there)) throw new ExitError(1, `destination "${container}:${path}" must be a directory or a regular file: got a device`);
  const destination: CopyEnd = { path: target, exists: there !== undefined, isDir: there !== undefined && isDirectory(there) };
  let directory = target;
  let body: AsyncIterable<Uint8Array>;
  if (from === "-") {
    if (!destination.isDir) throw new ExitError(1, `destination "${container}:${path}" must be a directory`);
    body = io.stdin;
  } else {
    const source = await localSource(localPath(io.cwd, from), flags.on("follow-link"));
    const placement = place(source, destination);
    directory = placement.directory;
    body = readTree(source.path, renamedRoot(source, placement.rename), undefined, (what) => warn(io, `WARNING: ${what}`));
  }
  let bytes = 0;
  await client.json("PUT", containerPath(container, "/archive"), {
    query: { path: directory, noOverwriteDirNonDir: "true", ...(flags.on("archive") ? { copyUIDGID: "true" } : {}) },
    body: counted(body, (n) => (bytes += n)),
    signal: io.gone,
  });
  tell(call, bytes, `${container}:${destination.path}`);
}

function renamedRoot(source: CopyEnd, rename: { readonly from: string; readonly to: string } | undefined): string {
  const name = source.rebase ?? splitEntry(source.path).base;
  return rename === undefined ? name : Buffer.from(renamed(Buffer.from(name).toString("latin1"), rename), "latin1").toString("utf8");
}

async function* counted(source: AsyncIterable<Uint8Array>, count: (bytes: number) => void): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const chunk of source) {
    count(chunk.byteLength);
    yield chunk;
  }
}

function tell({ flags, io }: Call, bytes: number, where: string): void {
  const quiet = flags.changed("quiet") ? flags.on("quiet") : !io.isTty.stdout;
  if (!quiet) warn(io, `Successfully copied ${humanSize(bytes)} to ${where}`);
}

// --- paths here

/** @throws ExitError when nothing can be written there */
async function checkOutput(path: string): Promise<void> {
  const directory = posix.dirname(path.replace(/\/\.?$/, "") || "/");
  const above = await stat(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") throw new ExitError(1, `invalid output path: directory "${directory}" does not exist`);
    return undefined; // the copy will say it
  });
  const there = above === undefined ? undefined : await stat(path).catch(() => undefined); // may well be missing
  if (there?.isCharacterDevice() === true || there?.isBlockDevice() === true)
    throw new ExitError(1, `invalid output path: "${path}" must be a directory or a regular file: got a device`);
}

const MAX_LINKS = 40;

/** Links are followed, also to where nothing is yet. */
async function localDestination(given: string): Promise<CopyEnd> {
  let path = given;
  for (let links = 0; ; links++) {
    const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw explainFileError(error, "lstat", path);
    });
    if (found === undefined) {
      const parent = splitEntry(path).directory;
      const above = await stat(parent).catch((error: unknown) => {
        throw explainFileError(error, "stat", parent);
      });
      if (!above.isDirectory()) throw new ExitError(1, "not a directory");
      return { path, exists: false, isDir: false };
    }
    if (!found.isSymbolicLink()) return { path, exists: true, isDir: found.isDirectory() };
    if (links >= MAX_LINKS) throw new ExitError(1, `exceeded max symlinks: ${given}`);
    path = posix.resolve(splitEntry(path).directory, await readlink(path));
  }
}

async function localSource(path: string, followLink: boolean): Promise<CopyEnd> {
  const real = async (at: string): Promise<string> => {
    try {
      return await realpath(at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOTDIR") throw new ExitError(1, "not a directory");
      throw explainFileError(error, "lstat", at);
    }
  };
  const at = path.lastIndexOf("/") + 1;
  const parent = followLink ? "" : await real(path.slice(0, at) || "/");
  const found = followLink
    ? followed(path, await real(path))
    : {
        path: `${parent === "/" ? "" : parent}/${path.slice(at)}`,
        rebase: path.length > 1 && path.endsWith("/") && base(path) !== base(parent) ? base(path) : undefined,
      };
  const info = await lstat(found.path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOTDIR") throw new ExitError(1, "not a directory");
    throw explainFileError(error, "lstat", keepEnd(path, path));
  });
  return { ...found, exists: true, isDir: info.isDirectory() };
}
