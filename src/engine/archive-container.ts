/** `cp`: what a path in a container is, its tree as a tar, and a tar unpacked there. @module */
import type { Container } from "#container/container.ts";
import { EngineError, errnoOf, isEngineError } from "#core/errors.ts";
import type { TreeStat } from "#linux/file-tree.ts";
import { resolveUser } from "#runtime/mod.ts";
import { decompress } from "#unionfs/tar/decompress.ts";
import { type TarSource, writeTar } from "#unionfs/write-tree.ts";
import { archivePath, followLinks, type ArchivePath } from "./archive-path.ts";
import { type ContainerTree, openContainerTree } from "./archive-root.ts";
import { type EngineContext, publishContainerEvent } from "./context.ts";
import { extractTar } from "./extract-archive.ts";
import type { PathStat } from "./mod.ts";

export async function statContainerPath(ctx: EngineContext, name: string, path: string): Promise<PathStat> {
  const container = ctx.registry.get(name);
  const opened = await openContainerTree(ctx, container);
  try {
    return shown(await statPath(opened, name, archivePath(path)));
  } finally {
    await opened.close();
  }
}

export async function readContainerArchive(
  ctx: EngineContext,
  name: string,
  path: string,
  onChanged?: (message: string) => void,
): Promise<{ readonly stat: PathStat; readonly tar: AsyncIterable<Uint8Array> }> {
  const container = ctx.registry.get(name);
  const opened = await openContainerTree(ctx, container);
  try {
    const asked = archivePath(path);
    const found = await statPath(opened, name, asked);
    publishContainerEvent(ctx, container, "archive-path");
    return {
      stat: shown(found),
      tar: closedAtEnd(
        writeTar(entries(opened, asked), (what) => {
          ctx.log("warn", `cp from ${name}: ${what}`);
          onChanged?.(what);
        }),
        () => opened.close(),
      ),
    };
  } catch (error) {
    await opened.close();
    throw error;
  }
}

export async function writeContainerArchive(
  ctx: EngineContext,
  name: string,
  path: string,
  tar: AsyncIterable<Uint8Array>,
  options: { readonly noOverwriteDirNonDir: boolean; readonly copyUidGid: boolean },
): Promise<void> {
  const container = ctx.registry.get(name);
  const asked = archivePath(path);
  const opened = await openContainerTree(ctx, container);
  try {
    const at = await extractionPoint(opened, name, asked);
    refuseReadonly(container, asked.absolute);
    const owner = options.copyUidGid && container.record.config.User !== "" ? await ownerOf(opened, container.record.config.User) : undefined;
    await extractTar(decompress(tar), { opened, at, absolute: asked.absolute, noOverwriteDirNonDir: options.noOverwriteDirNonDir, owner });
  } finally {
    await opened.close();
  }
  publishContainerEvent(ctx, container, "extract-to-dir");
}

interface Found {
  readonly asked: ArchivePath;
  readonly stat: TreeStat;
  readonly linkTarget: string;
}

function missing(container: string, path: string): EngineError {
  return new EngineError("not-found", `Could not find the file ${path} in container ${container}`);
}

async function statPath({ tree }: ContainerTree, container: string, asked: ArchivePath): Promise<Found> {
  const stat = await tree.lstat(asked.inTree);
  if (stat === undefined) throw missing(container, asked.absolute);
  return { asked, stat, linkTarget: stat.type === "symlink" ? (await followLinks(tree, asked.inTree)).path : "" };
}

function shown({ asked, stat, linkTarget }: Found): PathStat {
  const { type, mode, size, mtimeNs } = stat;
  return { name: asked.base, type, mode, size, mtimeNs, linkTarget };
}

/** The tree below a path, under the name that was asked for. */
async function* entries({ tree }: ContainerTree, { base, inTree }: ArchivePath): AsyncIterable<TarSource> {
  // "/" is the root's own name; below it, one slash is enough.
  const prefix = base === "/" ? "" : base;
  for await (const stat of tree.walk(inTree)) {
    const below = Buffer.from(stat.path).toString("latin1").slice(Buffer.byteLength(inTree)).replace(/^\/+/, "");
    const name = Buffer.from(prefix, "utf8").toString("latin1");
    // writeTar puts the slash behind a directory's name: the root's becomes "/".
    yield { kind: "entry", path: below === "" ? name : `${name}/${below}`, stat, tree };
  }
}

/** Closes when the reader has had all, or has gone; also when it never began. */
function closedAtEnd<T>(source: AsyncIterable<T>, close: () => Promise<void>): AsyncIterable<T> {
  const iterator = source[Symbol.asyncIterator]();
  let closing: Promise<void> | undefined;
  const closeOnce = () => (closing ??= close());
  return {
    [Symbol.asyncIterator]: () => ({
      next: async () => {
        try {
          const item = await iterator.next();
          if (item.done === true) await closeOnce();
          return item;
        } catch (error) {
          await closeOnce();
          throw error;
        }
      },
      return: async (value?: unknown) => {
        await iterator.return?.();
        await closeOnce();
        return { done: true, value };
      },
    }),
  };
}

/** The directory to unpack in, as the file tree names it. */
async function extractionPoint({ tree }: ContainerTree, container: string, asked: ArchivePath): Promise<string> {
  const at = asked.inTree === "" || asked.inTree.endsWith("/.") ? asked.inTree : `${asked.inTree}/.`;
  if ((await tree.lstat(at)) !== undefined) return at;
  const { stat } = await followLinks(tree, asked.inTree);
  if (stat === undefined || stat.type === "dir") throw missing(container, asked.absolute);
  throw new EngineError("invalid", "extraction point is not a directory");
}

/** Docker's words for what the mounts would refuse anyway. */
function refuseReadonly({ record }: Container, path: string): void {
  const holds = (destination: string) => path === destination || path.startsWith(destination.endsWith("/") ? destination : `${destination}/`);
  const volumes = record.mounts.filter(({ Type, Destination }) => Type !== "tmpfs" && holds(Destination));
  const volume = volumes.sort((a, b) => b.Destination.length - a.Destination.length)[0];
  if (volume?.RW === false) throw new EngineError("denied", "mounted volume is marked read-only");
  if (volume === undefined && record.hostConfig.ReadonlyRootfs) throw new EngineError("denied", "container rootfs is marked read-only");
}

const MAX_USER_FILE = 1 << 20;

async function ownerOf({ tree }: ContainerTree, user: string): Promise<{ readonly uid: number; readonly gid: number }> {
  const read = async (path: string): Promise<string> => {
    const parts: Uint8Array[] = [];
    let bytes = 0;
    try {
      for await (const part of (await tree.readFile(path)).data) {
        parts.push(part);
        bytes += part.byteLength;
        if (bytes > MAX_USER_FILE) break;
      }
    } catch (error) {
      if ((isEngineError(error) ? error.details.errno : errnoOf(error)) !== "ENOENT") throw error;
    }
    return Buffer.concat(parts).toString("utf8");
  };
  return resolveUser(user, await read("etc/passwd"), await read("etc/group"));
}
