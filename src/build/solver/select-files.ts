/** COPY's sources → the files they mean, and the names they get below the destination. @module @see https://docs.docker.com/reference/dockerfile/#copy */
import { posix } from "node:path";
import type { EngineError } from "#core/errors.ts";
import { compileGlob, isPattern } from "../frontend/glob.ts";
import { IgnoreRules } from "../frontend/ignore-file.ts";
import { baseOf, type ByteString, joinPath, parentOf, pathOf, resolveWithin, type SourceEntry, type SourceTree, textOf } from "./source-tree.ts";

/** One file or directory to be made. */
export interface Selected {
  readonly entry: SourceEntry;
  readonly tree: SourceTree;
  /** Below the destination; "" = the destination itself. */
  readonly name: ByteString;
}

/** What one source means. */
export interface Selection {
  /** A directory's content goes into the destination, which is a directory then; a single file may become it. */
  readonly isDirectory: boolean;
  /** ADD: its one file is an archive, whose members go into the destination in its place. */
  readonly unpack?: boolean;
  readonly files: readonly Selected[];
}

export interface SelectOptions {
  readonly parents: boolean;
  readonly exclude: readonly string[];
  /** What the files were asked of, for messages: "build context", "stage". */
  readonly missing: (pattern: string) => EngineError;
}

/** @throws EngineError "invalid" when there is none */
export async function selectFiles(tree: SourceTree, pattern: string, options: SelectOptions): Promise<Selection[]> {
  const rules = IgnoreRules.of(options.exclude);
  const [pivot, rest] = options.parents ? atPivot(pattern) : ["", pattern];
  const cleaned = posix.join("/", pivot, rest).slice(1).replace(/\/$/, "");
  const strip = posix.join("/", pivot).slice(1).replace(/\/$/, "");
  if (!isPattern(cleaned)) {
    const literal = pathOf(cleaned);
    const path = await resolveWithin((at) => tree.lstat(at), literal, true);
    const entry = await tree.lstat(path);
    if (entry === undefined) throw options.missing(pattern);
    return [await selectionOf(tree, entry, { name: literal, strip: pathOf(strip), rules, parents: options.parents })];
  }
  const selections: Selection[] = [];
  for (const path of await matches(tree, cleaned)) {
    const entry = await tree.lstat(await resolveWithin((at) => tree.lstat(at), path, true));
    if (entry === undefined || rules.ignores(textOf(baseOf(path)))) continue;
    selections.push(await selectionOf(tree, entry, { name: path, strip: pathOf(strip), rules, parents: options.parents }));
  }
  if (selections.length === 0) throw options.missing(pattern);
  return selections;
}

/** `a/./b/c`: with --parents, what stands in front of the dot is not kept. */
function atPivot(pattern: string): [string, string] {
  const at = pattern.indexOf("/./");
  return at < 0 ? ["", pattern] : [pattern.slice(0, at), pattern.slice(at + 3)];
}

async function matches(tree: SourceTree, pattern: string): Promise<ByteString[]> {
  const parts = pattern.split("/");
  const fixed = parts.slice(
    0,
    parts.findIndex((part) => isPattern(part)),
  );
  const start = await resolveWithin((at) => tree.lstat(at), pathOf(fixed.join("/")), true);
  const glob = compileGlob(parts.slice(fixed.length).join("/"));
  const deep = pattern.includes("**");
  const depth = parts.length - fixed.length;
  const found: ByteString[] = [];
  for await (const { path } of tree.walk(start)) {
    const below = start === "" ? path : path.slice(start.length + 1);
    if (below === "" || path === start || (!deep && below.split("/").length !== depth)) continue;
    if (glob.matches(textOf(below))) found.push(joinPath(pathOf(fixed.join("/")), below));
  }
  return found;
}

interface Placing {
  /** The path as it was asked for, links not followed. */
  readonly name: ByteString;
  /** With --parents: what is left out of it. */
  readonly strip: ByteString;
  readonly rules: IgnoreRules;
  readonly parents: boolean;
}

async function selectionOf(tree: SourceTree, entry: SourceEntry, { name, strip, rules, parents }: Placing): Promise<Selection> {
  const kept = parents ? (strip === "" ? name : name.slice(strip.length + 1)) : "";
  const above = parents ? await parentsOf(tree, name, strip) : [];
  if (entry.type !== "dir") return { isDirectory: parents, files: [...above, { entry, tree, name: parents ? kept : baseOf(name) }] };
  const files: Selected[] = [...above];
  for await (const found of tree.walk(entry.path)) {
    const below = found.path === entry.path ? "" : entry.path === "" ? found.path : found.path.slice(entry.path.length + 1);
    if (below === "" && kept === "") continue;
    if (below !== "" && !rules.empty && rules.ignores(textOf(below))) continue;
    if (found.type !== "socket") files.push({ entry: found, tree, name: joinPath(kept, below) });
  }
  return { isDirectory: true, files };
}

/** The directories above a file, as they are in the source. */
async function parentsOf(tree: SourceTree, name: ByteString, strip: ByteString): Promise<Selected[]> {
  const found: Selected[] = [];
  for (let path = parentOf(name); path !== strip && path !== ""; path = parentOf(path)) {
    const entry = await tree.lstat(await resolveWithin((at) => tree.lstat(at), path, true));
    if (entry?.type === "dir") found.unshift({ entry, tree, name: strip === "" ? path : path.slice(strip.length + 1) });
  }
  return found;
}
