/**
 * Paths as `cp` means them. Cleaned as text, they only name what is asked for; what they lead to is decided by the kernel, below the container's root.
 * @module
 */
import { posix } from "node:path";
import type { FileTree, TreeStat } from "#linux/file-tree.ts";

/** As the kernel: ELOOP after so many. */
const MAX_LINKS = 40;

export interface ArchivePath {
  /** Absolute and clean; a "/" or "/." at its end is kept: then what a link leads to is meant. */
  readonly absolute: string;
  /** Go's filepath.Base. */
  readonly base: string;
  /** For the file tree. */
  readonly inTree: string;
}

export function archivePath(path: string): ArchivePath {
  const clean = posix.resolve("/", path);
  const dot = path === "." || path.endsWith("/.");
  const slash = clean === "/" ? "" : "/";
  const absolute = dot ? `${clean}${slash}.` : path.endsWith("/") ? `${clean}${slash}` : clean;
  const followed = clean !== "/" && (dot || path.endsWith("/"));
  return { absolute, base: dot ? "." : clean === "/" ? "/" : posix.basename(clean), inTree: `${clean.slice(1)}${followed ? "/." : ""}` };
}

/**
 * Where a path leads when its links are followed, as far as there is something. For showing only: the container may change it at once, and who uses the
 * answer has it resolved again.
 */
export async function followLinks(tree: FileTree, path: string): Promise<{ readonly path: string; readonly stat: TreeStat | undefined }> {
  const todo = path.split("/");
  const done: string[] = [];
  let stat: TreeStat | undefined;
  for (let links = 0; todo.length > 0; ) {
    const name = todo.shift();
    if (name === undefined || name === "" || name === ".") continue;
    if (name === "..") {
      done.pop();
      continue;
    }
    stat = await tree.lstat([...done, name].join("/"));
    if (stat?.type !== "symlink" || ++links > MAX_LINKS) {
      done.push(name);
      continue;
    }
    const target = Buffer.from(stat.target ?? []).toString();
    if (target.startsWith("/")) done.length = 0;
    todo.unshift(...target.split("/"));
  }
  return { path: `/${done.join("/")}`, stat };
}
