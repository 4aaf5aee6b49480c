/** `build`: a Dockerfile and its context → an image. @module */
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { sizeOf } from "#build/cache/build-cache.ts";
import { IgnoreRules } from "#build/frontend/ignore-file.ts";
import { parseDockerfile } from "#build/frontend/stages.ts";
import type { BaseImage, BuildHost } from "#build/solver/host.ts";
import { solve } from "#build/solver/solve.ts";
import { parseSourceDate } from "#build/solver/source-date.ts";
import { pathOf, resolveWithin, type SourceEntry, type SourceTree, textOf } from "#build/solver/source-tree.ts";
import { download } from "#build/solver/download.ts";
import { TarTree } from "#build/solver/tar-tree.ts";
import { isArchive } from "#build/solver/unpack.ts";
import type { ChainID } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import { hostPlatform, type Image, parsePlatform } from "#image/mod.ts";
import { parseReference } from "#core/reference.ts";
import { imagesOf } from "./images.ts";
import type { FileTree } from "#linux/file-tree.ts";
import { toByteString } from "#unionfs/bytes.ts";
import { type TarSource, writeTar } from "#unionfs/write-tree.ts";
import { runBuildStep } from "./build-container.ts";
import { openChain } from "./chain-tree.ts";
import type { EngineContext } from "./context.ts";
import { parseUntil } from "./list-containers.ts";
import type { BuildOptions, Builds } from "./mod.ts";
import { userOfImage } from "./resolve-user.ts";

export function buildsOf(ctx: EngineContext): Builds {
  const { cache, mounts } = ctx.builds;
  return {
    build: (options, report, signal) => buildImage(ctx, options, report, signal),
    root: async (name) => rootOf(ctx, await ctx.images.get(name)),
    records: () =>
      cache
        .records()
        .map((record) => ({ ...record, inUse: cache.inUse(record), shared: record.layer !== undefined && ctx.imageIndex.hasLayer(record.layer.chainId) })),
    prune: async ({ all, keepBytes, filters }) => {
      const until = (filters["until"] ?? filters["unused-for"] ?? []).map(parseUntil);
      const ids = filters["id"] ?? [];
      const removed = await cache.prune({
        all,
        ...(keepBytes === undefined ? {} : { keepBytes }),
        ...(until.length === 0 ? {} : { untilMs: Math.min(...until) }),
        match: ({ key, text }) =>
          (ids.length === 0 || ids.some((id) => key.startsWith(id))) && (filters["description"] ?? []).every((part) => text.includes(part)),
      });
      if (all && until.length === 0 && ids.length === 0) await mounts.prune();
      const bytes = sizeOf(removed);
      ctx.events.publish("builder", "prune", "", { reclaimed: String(bytes) });
      return { deleted: removed.map(({ key }) => key), bytes };
    },
  };
}

async function* rootOf(ctx: EngineContext, { chainId }: Image): AsyncIterable<Uint8Array> {
  if (chainId === undefined) {
    yield* writeTar(nothing());
    return;
  }
  const tree = await openChain(ctx, chainId);
  try {
    yield* writeTar(entriesOf(tree));
  } finally {
    await tree.close();
  }
}

async function* nothing(): AsyncIterable<TarSource> {}

async function* entriesOf(tree: FileTree): AsyncIterable<TarSource> {
  for await (const stat of tree.walk("")) {
    const path = toByteString(stat.path);
    if (path !== "") yield { kind: "entry", path, stat, tree };
  }
}

async function buildImage(ctx: EngineContext, options: BuildOptions, report: Parameters<Builds["build"]>[1], signal: AbortSignal): ReturnType<Builds["build"]> {
  const folder = await mkdtemp(join(ctx.builds.workDir, "build-"));
  // Until the image is recorded, no prune may take its layers.
  const hold = ctx.layers.hold();
  try {
    const { dockerfile, context } = await receive(options, folder, signal);
    const result = await solve(
      { host: hostOf(ctx, folder, options.credentials), cache: ctx.builds.cache, caches: ctx.builds.mounts },
      {
        dockerfile,
        context,
        namedContexts: new Map(),
        target: options.target,
        buildArgs: options.buildArgs,
        labels: options.labels,
        platform: parsePlatform(options.platform),
        hostPlatform: { os: hostPlatform.os, architecture: hostPlatform.architecture },
        noCache: options.noCache,
        pull: options.pull,
        limits: options.limits,
        secret: async (id) => (Object.hasOwn(options.secrets, id) ? options.secrets[id] : undefined),
        sshAgent: async () => undefined,
        sourceDateEpoch: parseSourceDate(options.buildArgs["SOURCE_DATE_EPOCH"]),
        keepContainers: options.keepContainers,
        signal,
        report,
      },
    );
    const known = await ctx.images.find(result.id);
    const image = known ?? (await ctx.images.add(result.config));
    for (const tag of options.tags) await ctx.images.tag(image.id, tag);
    await ctx.imageIndex.refresh();
    for (const tag of options.tags) ctx.events.publish("image", "tag", image.id, { ...image.config.config?.Labels, name: tag });
    return { id: image.id, unusedArgs: result.unusedArgs };
  } finally {
    hold.release();
    await rm(folder, { recursive: true, force: true });
  }
}

/** What an URL gives is a context when it is an archive, and else a Dockerfile. */
async function fetched(url: string, folder: string, signal: AbortSignal): Promise<BuildOptions["context"]> {
  const { tree, entry } = await download(url, join(folder, "remote"), signal);
  if (await isArchive(tree, entry)) return { kind: "tar", stream: tree.read(entry.path) };
  return { kind: "dockerfile", text: await textOfFile(tree, entry, url) };
}

async function receive({ context: given, dockerfile: name }: BuildOptions, folder: string, signal: AbortSignal) {
  const context = given.kind === "url" ? await fetched(given.url, folder, signal) : given;
  if (context.kind === "url") throw new EngineError("internal", "an URL is no context");
  if (context.kind === "dockerfile") return { dockerfile: parseDockerfile(context.text, name), context: undefined };
  const all = await TarTree.receive(context.stream, join(folder, "context.tar"), signal);
  const text = context.dockerfile ?? (await textAt(all, name));
  if (text === undefined) throw new EngineError("invalid", `Cannot locate specified Dockerfile: ${name}`, { hint: "it is looked for in the build context" });
  // A Dockerfile may have an ignore file of its own.
  const ignore = (await textAt(all, `${name}.dockerignore`)) ?? (await textAt(all, ".dockerignore"));
  const rules = IgnoreRules.parse(ignore ?? "");
  return { dockerfile: parseDockerfile(text, name), context: rules.empty ? all : all.filtered((path) => rules.ignores(textOf(path))) };
}

/** Dockerfiles are small. Bytes. */
const maxTextBytes = 8 * 1024 * 1024;

async function textAt(tree: TarTree, name: string): Promise<string | undefined> {
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

interface ImageWanted {
  readonly platform: string;
  readonly pull: boolean;
  readonly signal: AbortSignal;
  readonly onStatus: (line: string) => void;
  readonly credentials: BuildOptions["credentials"];
}

/** Of this platform; what is here serves, unless a pull was asked for. */
async function imageFor(ctx: EngineContext, reference: string, { platform, pull, signal, onStatus, credentials }: ImageWanted): Promise<BaseImage> {
  const here = await ctx.images.find(reference);
  const wanted = platform === "" ? undefined : parsePlatform(platform);
  const serves = here !== undefined && (wanted === undefined || (wanted.os === here.config.os && wanted.architecture === here.config.architecture));
  if (serves && (!pull || here.repoTags.length === 0)) return baseOfImage(here);
  const name = parseReference(reference);
  const request = { reference, ...(platform === "" ? {} : { platform }), credentials: credentials(name.domain) };
  await imagesOf(ctx).pull(
    request,
    (event) => {
      if (event.kind === "begin") onStatus(`${event.tag}: Pulling from ${event.path}`);
      else if (event.kind === "note") onStatus(event.why);
      else if (event.kind === "end") onStatus(`Status: ${event.newer ? "Downloaded newer image" : "Image is up to date"} for ${event.reference}`);
    },
    signal,
  );
  return baseOfImage(await ctx.images.get(reference));
}

function hostOf(ctx: EngineContext, workDir: string, credentials: BuildOptions["credentials"]): BuildHost {
  return {
    layers: ctx.layers,
    images: ctx.images,
    workDir,
    runtimeDir: ctx.builds.runtimeDir,
    image: (reference, how) => imageFor(ctx, reference, { ...how, credentials }),
    run: (request) => runBuildStep(ctx, request),
    openRoot: (chain) => openChain(ctx, chain),
    owner: (chain, text) => ownerOf(ctx, chain, text),
    makeRoom: (bytes) => ctx.budget.makeRoom(async () => bytes),
  };
}

function baseOfImage({ id, chainId, diffIds, config }: Image): BaseImage {
  const { architecture, os, variant } = config;
  return {
    id,
    chainId,
    diffIds,
    settings: config.config ?? {},
    created: config.created,
    history: config.history ?? [],
    platform: { os, architecture: architecture || hostPlatform.architecture, ...(variant === undefined ? {} : { variant }) },
  };
}

/** `user`, `user:group`, numbers or names. A user alone means the group of the same name or number too, or else its own. */
async function ownerOf(ctx: EngineContext, chain: ChainID | undefined, text: string): Promise<{ readonly uid: number; readonly gid: number }> {
  const [user = "", group] = text.split(":");
  if (/^[0-9]+$/.test(user) && (group === undefined || /^[0-9]+$/.test(group))) return { uid: Number(user), gid: Number(group ?? user) };
  if (chain === undefined)
    throw new EngineError("invalid", `unable to convert uid/gid chown string to host mapping: can't find uid for user ${user}: the image has no users`);
  const root = await ctx.layers.driver.mounts(chain);
  const find = async (who: string) => {
    const { uid, gid } = await userOfImage(ctx, root, chain, who);
    return { uid, gid };
  };
  try {
    if (group !== undefined) return await find(text);
    return await find(`${user}:${user}`).catch((error: unknown) => {
      if (!isEngineError(error)) throw error;
      return find(user);
    });
  } catch (error) {
    if (!isEngineError(error)) throw error;
    throw new EngineError("invalid", `unable to convert uid/gid chown string to host mapping: ${error.message}`, { cause: error });
  }
}
