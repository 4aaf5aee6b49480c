/** COPY and ADD: which files, what they are to be called and look like, and the layer that they become. @module */
import { createHash, randomBytes } from "node:crypto";
import { join } from "node:path";
import { EngineError } from "#core/errors.ts";
import type { ChainID } from "#core/digest.ts";
import type { FileTree } from "#linux/file-tree.ts";
import { toBytes, toByteString } from "#unionfs/bytes.ts";
import type { CopyOperation } from "../graph/operation.ts";
import { digestOfPrints } from "../cache/inputs.ts";
import type { FilePrints, Inputs } from "../cache/record.ts";
import type { BuildHost, Layer } from "./host.ts";
import { type CopyChanges, findDestination, fingerprint, layerTar, placeFiles } from "./copy-layer.ts";
import { download } from "./download.ts";
import { parseChmod } from "./file-mode.ts";
import { inlineName, inlineTree } from "./memory-tree.ts";
import type { KnownAnswers } from "./known-states.ts";
import { type Selection, selectFiles } from "./select-files.ts";
import { type ByteString, type SourceTree, textOf } from "./source-tree.ts";
import { isArchive, unpackedEntries } from "./unpack.ts";

/** Lists of files that are longer are summed up by directory in a record. */
const maxListedFiles = 20_000;

/** A copy whose files are known; nothing is made yet. */
export interface PreparedCopy {
  readonly inputs: Inputs;
  /** What the input `files` stands for. */
  readonly prints: FilePrints;
  readonly selections: readonly Selection[];
  readonly changes: CopyChanges;
}

export interface CopyContext {
  readonly host: BuildHost;
  readonly parent: ChainID | undefined;
  /** The tree that `--from`, or its absence, means. */
  readonly tree: (operation: CopyOperation) => Promise<{ readonly tree: SourceTree; readonly what: string }>;
  readonly clampNs: bigint | undefined;
  readonly signal: AbortSignal;
}

async function withUnpacking(selection: Selection): Promise<Selection> {
  const [file, ...more] = selection.files;
  if (file === undefined || more.length > 0 || selection.isDirectory || !(await isArchive(file.tree, file.entry))) return selection;
  return { ...selection, unpack: true };
}

async function downloaded(
  url: string,
  { checksum, unpack, intoDirectory }: CopyOperation,
  { host, signal }: Pick<CopyContext, "host" | "signal">,
): Promise<Selection> {
  const { tree, entry, sha256 } = await download(url, join(host.workDir, `download-${randomBytes(8).toString("hex")}`), signal);
  if (checksum !== undefined && checksum !== `sha256:${sha256}`) throw new EngineError("invalid", `digest mismatch sha256:${sha256}: ${checksum}`);
  if (entry.path === "" && intoDirectory) throw new EngineError("invalid", `cannot determine filename from url: ${url}`);
  const selection: Selection = { isDirectory: false, files: [{ entry, tree, name: entry.path }] };
  return unpack === true ? withUnpacking(selection) : selection;
}

async function checkedOut(
  url: string,
  { checksum, keepGitDir, exclude }: CopyOperation,
  { host, signal }: Pick<CopyContext, "host" | "signal">,
): Promise<Selection> {
  const { tree, commit } = await host.git(url, { keepGitDir, signal });
  // The commit, or its beginning.
  if (checksum !== undefined && !(checksum.length >= 7 && commit.startsWith(checksum)))
    throw new EngineError("invalid", `expected checksum to match ${checksum}, got ${commit}`);
  const missing = () => new EngineError("internal", "a repository has no root");
  const [selection] = await selectFiles(tree, "/", { parents: false, exclude, missing });
  return selection!; // of what is no pattern there is one
}

async function changesOf(
  { chown, chmod, from }: CopyOperation,
  { host, parent, clampNs }: Pick<CopyContext, "host" | "parent" | "clampNs">,
): Promise<CopyChanges> {
  const owner = chown === undefined ? (from === undefined ? { uid: 0, gid: 0 } : undefined) : await host.owner(parent, chown);
  return { owner, clampNs, mode: chmod === undefined ? undefined : parseChmod(chmod) };
}

/** The inputs as {@link prepareCopy} would find them, where an earlier build has looked at the same files for the same copy: good to ask the cache, not to copy with. */
export async function knownCopy(operation: CopyOperation, context: CopyContext): Promise<Inputs | undefined> {
  const known = await answersFor(operation, context);
  return known?.get(questionOf(operation, await changesOf(operation, context)));
}

/** What downloads give is asked for each time. */
async function answersFor(operation: CopyOperation, { tree }: Pick<CopyContext, "tree">): Promise<KnownAnswers | undefined> {
  return operation.sources.every(({ kind }) => kind === "path") ? (await tree(operation)).tree.known : undefined;
}

function questionOf(operation: CopyOperation, { owner, clampNs }: CopyChanges): string {
  return JSON.stringify(["copy", operation, owner ?? "", String(clampNs ?? "")]);
}

export async function prepareCopy(operation: CopyOperation, context: CopyContext): Promise<PreparedCopy> {
  const { host, tree, signal } = context;
  const changes = await changesOf(operation, context);
  const selections: Selection[] = [];
  for (const source of operation.sources) {
    if (source.kind === "inline") {
      const inline = inlineTree(source.name, source.content);
      const entry = (await inline.lstat(inlineName(source.name)))!;
      selections.push({ isDirectory: false, files: [{ entry, tree: inline, name: entry.path }] });
    } else if (source.kind === "path") {
      const from = await tree(operation);
      const missing = (pattern: string) => notFound(pattern, from.what);
      const selected = await selectFiles(from.tree, source.pattern, { parents: operation.parents, exclude: operation.exclude, missing });
      selections.push(...(operation.add && operation.unpack !== false ? await Promise.all(selected.map(withUnpacking)) : selected));
    } else if (source.kind === "url") selections.push(await downloaded(source.url, operation, { host, signal }));
    else selections.push(await checkedOut(source.url, operation, { host, signal }));
  }
  if (selections.length > 1 && !operation.intoDirectory && selections.some((selection) => !selection.isDirectory))
    throw new EngineError(
      "invalid",
      `When using ${operation.add ? "ADD" : "COPY"} with more than one source file, the destination must be a directory and end with a /`,
    );
  const prepared = await copyInputs(operation, selections, changes);
  (await answersFor(operation, context))?.set(questionOf(operation, changes), prepared.inputs);
  return { ...prepared, selections, changes };
}

function notFound(pattern: string, what: string): EngineError {
  if (what === "context")
    return new EngineError(
      "invalid",
      `COPY failed: file not found in build context or excluded by .dockerignore: stat ${pattern.replace(/^\/+/, "")}: file does not exist`,
    );
  return new EngineError("invalid", `COPY failed: stat ${pattern}: file does not exist in ${what}`);
}

async function copyInputs(operation: CopyOperation, selections: readonly Selection[], changes: CopyChanges): Promise<Pick<PreparedCopy, "inputs" | "prints">> {
  const { destination, intoDirectory, link, add } = operation;
  const inputs: Record<string, string> = { operation: add ? "add" : "copy", destination: `${destination}${intoDirectory ? "/" : ""}`, link: String(link) };
  if (changes.clampNs !== undefined) inputs["SOURCE_DATE_EPOCH"] = String(changes.clampNs);
  if (changes.owner !== undefined) inputs["owner"] = `${changes.owner.uid}:${changes.owner.gid}`;
  await fetchAll(selections);
  const prints = new Prints(selections.reduce((sum, { files }) => sum + files.length, 0));
  for (const [i, { isDirectory, unpack, files: selected }] of selections.entries()) {
    inputs[`source ${i}`] = unpack === true ? "archive" : isDirectory ? "directory" : "file";
    for (const file of selected) prints.add(textOf(file.name), await fingerprint(file, changes, file.name === ""));
  }
  const all = prints.all();
  return { prints: all, inputs: { ...inputs, files: digestOfPrints(all) } };
}

export async function fetchAll(selections: readonly Selection[]): Promise<void> {
  const wanted = new Map<SourceTree, ByteString[]>();
  for (const { entry, tree } of selections.flatMap(({ files }) => files)) {
    if (entry.type !== "file") continue;
    const paths = wanted.get(tree) ?? [];
    paths.push(entry.path);
    wanted.set(tree, paths);
  }
  for (const [tree, paths] of wanted) await tree.want?.(paths);
}

/** Collects what stands for files: each, or their directories when they are too many. */
class Prints {
  readonly #files = new Map<string, string>();
  readonly #directories: Map<string, ReturnType<typeof createHash>> | undefined;

  constructor(count: number) {
    this.#directories = count > maxListedFiles ? new Map() : undefined;
  }

  add(name: string, print: string): void {
    if (this.#directories === undefined) {
      this.#files.set(name, print);
      return;
    }
    const directory = `${name.slice(0, name.lastIndexOf("/") + 1)}*`;
    const hash = this.#directories.get(directory) ?? createHash("sha256");
    hash.update(`${JSON.stringify(name)}:${JSON.stringify(print)}\n`);
    this.#directories.set(directory, hash);
  }

  all(): FilePrints {
    return this.#directories === undefined ? this.#files : new Map(Array.from(this.#directories, ([name, hash]) => [name, hash.digest("hex")]));
  }
}

/** Makes the layer. undefined: it would be empty. */
export async function performCopy(
  operation: CopyOperation,
  prepared: PreparedCopy,
  host: BuildHost,
  parent: ChainID | undefined,
  signal: AbortSignal,
): Promise<Layer | undefined> {
  const root = parent === undefined || operation.link ? undefined : await host.openRoot(parent);
  try {
    const destination = await findDestination(lstatOf(root), operation.destination);
    const archives = prepared.selections.filter(({ unpack }) => unpack === true);
    // Their owners are the archive's own, unless --chown says otherwise.
    const unpacking = { ...prepared.changes, owner: operation.chown === undefined ? undefined : prepared.changes.owner };
    const kept = prepared.selections.map((selection) => (selection.unpack === true ? { isDirectory: true, files: [] } : selection));
    const placed = placeFiles(kept, destination, operation.intoDirectory, prepared.changes);
    if (placed.length === 0 && archives.length === 0) return undefined;
    await host.makeRoom(placed.reduce((sum, { entry }) => sum + entry.size, 0));
    const members = archives.flatMap(({ files }) => files).map((file) => unpackedEntries(file, destination.path, lstatOf(root), unpacking));
    return await host.layers.apply(parent, layerTar(placed, ...members), { signal });
  } finally {
    await root?.close();
  }
}

/** Makes the directory of WORKDIR where it is missing. */
export async function performWorkdir(path: string, host: BuildHost, parent: ChainID | undefined, clampNs: bigint | undefined): Promise<Layer | undefined> {
  const root = parent === undefined ? undefined : await host.openRoot(parent);
  try {
    const destination = await findDestination(lstatOf(root), path);
    if (destination.type === "dir") return undefined;
    if (destination.type !== undefined) throw new EngineError("invalid", `cannot mkdir: ${path} is not a directory`);
    const placed = placeFiles([{ isDirectory: true, files: [] }], destination, true, { owner: { uid: 0, gid: 0 }, mode: undefined, clampNs });
    return await host.layers.apply(parent, layerTar(placed));
  } finally {
    await root?.close();
  }
}

function lstatOf(root: FileTree | undefined): Parameters<typeof findDestination>[0] {
  return async (path) => {
    const stat = await root?.lstat(toBytes(path));
    return stat === undefined ? undefined : { type: stat.type, target: stat.target === undefined ? "" : toByteString(stat.target) };
  };
}
