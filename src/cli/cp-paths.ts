/**
 * What `docker cp` makes of its two paths: what is copied under which name into which directory.
 * @module
 * @see https://docs.docker.com/reference/cli/docker/container/cp/#extended-description
 */
import { posix } from "node:path";
import { ExitError } from "./errors.ts";

/** One end of a copy. */
export interface CopyEnd {
  readonly path: string;
  readonly exists: boolean;
  readonly isDir: boolean;
  /** The source goes by this name, because a link was followed. */
  readonly rebase?: string | undefined;
}

/** Where the archive is unpacked, and what becomes of its entries' names: a first part `from` is replaced by `to`. */
export interface Placement {
  readonly directory: string;
  readonly rename: { readonly from: string; readonly to: string } | undefined;
}

/** `CONTAINER:PATH`, or a path here: absolute, or beginning with a dot, or without a colon. */
export function splitArgument(argument: string): { readonly container: string | undefined; readonly path: string } {
  const colon = argument.indexOf(":");
  if (argument.startsWith("/") || argument.startsWith(".") || colon < 1) return { container: undefined, path: argument };
  return { container: argument.slice(0, colon), path: argument.slice(colon + 1) };
}

// As Go's filepath.Base, for which "" is ".".
const meansItself = (path: string): boolean => path === "" || path === "." || path.endsWith("/.");

/** A path here, absolute; "/" and "/." at its end mean something and are kept. */
export function localPath(cwd: string, path: string): string {
  return keepEnd(posix.resolve(cwd, path), path);
}

/** Gives a cleaned path the end that it had. */
export function keepEnd(clean: string, original: string): string {
  const slash = clean.endsWith("/") ? "" : "/";
  if (meansItself(original)) return meansItself(clean) ? clean : `${clean}${slash}.`;
  return original.endsWith("/") ? `${clean}${slash}` : clean;
}

/** Go's filepath.Base. */
export function base(path: string): string {
  return posix.basename(path) || "/";
}

/** Directory and last component; the last component of "x/." is ".". */
export function splitEntry(path: string): { readonly directory: string; readonly base: string } {
  const clean = posix.normalize(path === "" ? "." : path);
  const whole = meansItself(path) ? `${clean.replace(/\/$/, "")}/.` : clean.length > 1 ? clean.replace(/\/+$/, "") : clean;
  return { directory: whole.endsWith("/.") ? whole.slice(0, -2) || "/" : posix.dirname(whole), base: base(whole) };
}

/** What a link that was followed leads to, and the name that it is copied under. */
export function followed(path: string, target: string): { readonly path: string; readonly rebase: string | undefined } {
  const kept = keepEnd(target, path);
  return { path: kept, rebase: base(path) === base(kept) ? undefined : base(path) };
}

/** Decides as docker does. Throws what cannot be. */
export function place(source: CopyEnd, destination: CopyEnd): Placement {
  const { directory, base: name } = splitEntry(destination.path);
  const from = source.rebase ?? splitEntry(source.path).base;
  if (destination.exists && destination.isDir) return { directory: destination.path, rename: undefined };
  if (destination.exists && source.isDir) throw new ExitError(1, "cannot copy directory");
  if (!destination.exists && !source.isDir && (destination.path.endsWith("/") || meansItself(destination.path))) throw new ExitError(1, "no such directory");
  return { directory, rename: { from, to: name } };
}

/** An entry's name after {@link Placement.rename}. Names are one character for each byte. */
export function renamed(name: string, rename: Placement["rename"]): string {
  if (rename === undefined) return name;
  const [from, to] = [rename.from === "/" ? "" : rename.from, rename.to].map((text) => Buffer.from(text, "utf8").toString("latin1")) as [string, string];
  return name === from || name.startsWith(`${from}/`) ? `${to}${name.slice(from.length)}` : name;
}
