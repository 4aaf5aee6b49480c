/** Where a build's files come from: an archive, an URL, or a client that sends what is asked for. @module */
import { join } from "node:path";
import { IgnoreRules } from "#build/frontend/ignore-file.ts";
import { type Dockerfile, parseDockerfile } from "#build/frontend/stages.ts";
import type { NamedContext } from "#build/solver/build-request.ts";
import { download } from "#build/solver/download.ts";
import { isGitUrl } from "#build/graph/copy-operation.ts";
import { type ByteString, pathOf, resolveWithin, type SourceEntry, type SourceTree, textOf } from "#build/solver/source-tree.ts";
import { SyncedTree } from "#build/solver/synced-tree.ts";
import { TarTree } from "#build/solver/tar-tree.ts";
import { isArchive } from "#build/solver/unpack.ts";
import { EngineError } from "#core/errors.ts";
import type { Helper } from "#linux/helper.ts";
import type { BuildState } from "./build-state.ts";
import type { EngineContext } from "./context.ts";
import { fetchGit, parseGitUrl } from "./git-source.ts";
import { LocalFiles } from "./local-files.ts";
import type { BuildOptions, NamedContextSource, SentContext } from "./mod.ts";

export interface MainContext {
  readonly dockerfile: Dockerfile;
  /** What is left out of the context. */
  readonly ignore: IgnoreRules;
  readonly context: (() => Promise<SourceTree>) | undefined;
}

/** The contexts of one build; disposing closes what was opened of them. */
export class BuildContexts implements AsyncDisposable {
  readonly #state: Pick<BuildState, "sent">;
  readonly #helper: Pick<Helper, "openTree">;
  readonly #folder: string;
  readonly #signal: AbortSignal;
  readonly #undo: (() => Promise<unknown>)[] = [];
  #count = 0;

  /** `folder`: the build's own. */
  constructor({ builds, helper }: Pick<EngineContext, "builds" | "helper">, folder: string, signal: AbortSignal) {
    this.#state = builds;
    this.#helper = helper;
    this.#folder = folder;
    this.#signal = signal;
  }

  /** @throws EngineError "invalid" for a context that cannot be read, or has no Dockerfile */
  async main({ context: given, dockerfile: name }: Pick<BuildOptions, "context" | "dockerfile">): Promise<MainContext> {
    switch (given.kind) {
      case "dockerfile":
        return { dockerfile: parseDockerfile(given.text, name), ignore: IgnoreRules.parse(""), context: undefined };
      case "sent": {
        const ignore = IgnoreRules.parse(given.ignore);
        return { dockerfile: parseDockerfile(given.dockerfile, name), ignore, context: this.#lazily(() => this.#sent(given.files, ignore.patterns)) };
      }
      case "directory": {
        const { path, dockerfile } = given.directory;
        const ignore = IgnoreRules.parse(given.directory.ignore);
        return { dockerfile: parseDockerfile(dockerfile, name), ignore, context: this.#lazily(() => this.#sent(this.#localFiles(path), ignore.patterns)) };
      }
      case "tar":
        return this.#ofTree(await this.#archive(given.stream), given.dockerfile, name);
      case "url": {
        if (isRepository(given.url)) return this.#ofTree(await this.#checkout(given.url), given.dockerfile, name);
        const fetched = await this.#fetched(given.url);
        if (fetched.kind === "archive") return this.#ofTree(await this.#archive(fetched.stream), given.dockerfile, name);
        return { dockerfile: parseDockerfile(given.dockerfile ?? fetched.text, name), ignore: IgnoreRules.parse(""), context: undefined };
      }
    }
  }

  named(sources: ReadonlyMap<string, NamedContextSource>): Map<string, NamedContext> {
    return new Map(
      Array.from(sources, ([name, source]): [string, NamedContext] => {
        if (source.kind === "image") return [name, source];
        return [name, { kind: "tree", open: this.#lazily(() => this.#open(source)) }];
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const step of this.#undo.reverse()) await step();
  }

  async #ofTree(all: FilterableTree, given: string | undefined, name: string): Promise<MainContext> {
    const text = given ?? (await textAt(all, name));
    if (text === undefined) throw new EngineError("invalid", `Cannot locate specified Dockerfile: ${name}`, { hint: "it is looked for in the build context" });
    // A Dockerfile may have an ignore file of its own.
    const ignore = (await textAt(all, `${name}.dockerignore`)) ?? (await textAt(all, ".dockerignore"));
    const rules = IgnoreRules.parse(ignore ?? "");
    const context = rules.empty ? all : all.filtered((path) => rules.ignores(textOf(path)));
    return { dockerfile: parseDockerfile(text, name), ignore: rules, context: async () => context };
  }

  /** Opened once, when somebody asks first. */
  #lazily(open: () => Promise<SourceTree>): () => Promise<SourceTree> {
    let opened: Promise<SourceTree> | undefined;
    return () => (opened ??= open());
  }

  #open(source: Exclude<NamedContextSource, { kind: "image" }>): Promise<SourceTree> {
    if (source.kind === "url") return this.#remote(source.url);
    return this.#sent(source.kind === "sent" ? source.files : this.#localFiles(source.path), []);
  }

  async #sent({ key, open }: SentContext, exclude: readonly string[]): Promise<SyncedTree> {
    const { files, release } = this.#state.sent.acquire(key);
    this.#undo.push(release);
    const sender = await open(exclude, this.#signal);
    this.#undo.push(async () => sender[Symbol.asyncDispose]());
    return SyncedTree.receive(sender, files);
  }

  #archive(stream: AsyncIterable<Uint8Array>): Promise<TarTree> {
    return TarTree.receive(stream, join(this.#folder, `context-${this.#count++}.tar`), this.#signal);
  }

  /** A repository's files and its commit; the directory goes when the build has ended. */
  async git(url: string, keepGitDir: boolean): Promise<{ readonly tree: SyncedTree; readonly commit: string }> {
    const to = join(this.#folder, `git-${this.#count++}`);
    const { path, commit } = await fetchGit(parseGitUrl(url), to, keepGitDir, this.#signal);
    const tree = await this.#sent({ key: undefined, open: this.#localFiles(path).open }, []);
    return { tree, commit };
  }

  async #checkout(url: string): Promise<SyncedTree> {
    return (await this.git(url, false)).tree;
  }

  async #remote(url: string): Promise<SourceTree> {
    if (isRepository(url)) return this.#checkout(url);
    const fetched = await this.#fetched(url);
    if (fetched.kind !== "archive") throw new EngineError("invalid", `the build context ${url} is not an archive`);
    return this.#archive(fetched.stream);
  }

  #localFiles(path: string): SentContext {
    return { key: JSON.stringify(["local", path]), open: async (exclude, signal) => new LocalFiles(this.#helper.openTree(path), exclude, signal) };
  }

  /** What an URL gives is a context when it is an archive, and else a Dockerfile. */
  async #fetched(
    url: string,
  ): Promise<{ readonly kind: "archive"; readonly stream: AsyncIterable<Uint8Array> } | { readonly kind: "text"; readonly text: string }> {
    const { tree, entry } = await download(url, join(this.#folder, `remote-${this.#count++}`), this.#signal);
    if (await isArchive(tree, entry)) return { kind: "archive", stream: tree.read(entry.path) };
    return { kind: "text", text: await textOfFile(tree, entry, url) };
  }
}

/** What can be looked at before its ignore file is known. */
type FilterableTree = SourceTree & { filtered(ignores: (path: ByteString) => boolean): SourceTree };

/** As docker has it: a context may leave out the scheme of GitHub's. */
function isRepository(url: string): boolean {
  return isGitUrl(url) || url.startsWith("github.com/");
}

/** Dockerfiles are small. Bytes. */
const maxTextBytes = 8 * 1024 * 1024;

async function textAt(tree: SourceTree, name: string): Promise<string | undefined> {
  const path = await resolveWithin((at) => tree.lstat(at), pathOf(name), true);
  const entry = await tree.lstat(path);
  if (entry?.type !== "file") return undefined;
  return textOfFile(tree, entry, name);
}

async function textOfFile(tree: SourceTree, entry: SourceEntry, name: string): Promise<string> {
  if (entry.size > maxTextBytes) throw new EngineError("invalid", `${name} has ${entry.size} bytes; at most ${maxTextBytes} are accepted`);
  const chunks: Uint8Array[] = [];
  for await (const chunk of tree.read(entry.path)) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}
