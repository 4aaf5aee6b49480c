/** `build`: a Dockerfile and its context → an image. @module */
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { sizeOf } from "#build/cache/build-cache.ts";
import { checkArg, lint, ruleUrl } from "#build/frontend/lint.ts";
import { platformArgs } from "#build/graph/mod.ts";
import type { BaseImage, BuildHost } from "#build/solver/host.ts";
import { solve } from "#build/solver/solve.ts";
import { parseSourceDate } from "#build/solver/source-date.ts";
import type { BuildRequest, BuildResult } from "#build/solver/build-request.ts";
import { type ChainID, digestOf, type ImageID } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import { hostPlatform, type Image, parsePlatform } from "#image/mod.ts";
import { parseReference } from "#core/reference.ts";
import { imagesOf } from "./images.ts";
import type { FileTree } from "#linux/file-tree.ts";
import { toByteString } from "#unionfs/bytes.ts";
import { squashedTar } from "#unionfs/squash.ts";
import { clampTimes } from "#unionfs/tar/clamp-times.ts";
import { type TarSource, writeTar } from "#unionfs/write-tree.ts";
import { AgentSockets } from "./agent-sockets.ts";
import { runBuildStep } from "./build-container.ts";
import { BuildContexts } from "./build-contexts.ts";
import { openChain } from "./chain-tree.ts";
import type { EngineContext } from "./context.ts";
import { exportCache, withInlineCache } from "./export-cache.ts";
import { ImportedCaches } from "./import-cache.ts";
import { parseUntil } from "./list-containers.ts";
import type { BuildOptions, Builds, SolvedBuild } from "./mod.ts";
import { userOfImage } from "./resolve-user.ts";

export function buildsOf(ctx: EngineContext): Builds {
  const { cache, mounts, sent } = ctx.builds;
  return {
    build: (options, report, signal) => buildImage(ctx, options, report, signal),
    solve: (options, report, signal) => solveBuild(ctx, options, report, signal),
    root: async (name) => rootOf(ctx, (await ctx.images.get(name)).chainId),
    records: () =>
      cache
        .records()
        .map((record) => ({ ...record, inUse: cache.inUse(record), shared: record.layer !== undefined && ctx.imageIndex.hasLayer(record.layer.chainId) })),
    prune: async ({ all, keepBytes, filters }) => {
      const until = (filters["until"] ?? filters["unused-for"] ?? []).map(parseUntil);
      const ids = filters["id"] ?? [];
      // What a build has left has no labels: none matches one.
      if ((filters["label"] ?? []).length > 0) return { deleted: [], bytes: 0 };
      const removed = await cache.prune({
        all,
        ...(keepBytes === undefined ? {} : { keepBytes }),
        ...(until.length === 0 ? {} : { untilMs: Math.min(...until) }),
        match: ({ key, text }) =>
          (ids.length === 0 || ids.some((id) => key.startsWith(id))) && (filters["description"] ?? []).every((part) => text.includes(part)),
      });
      if (all && until.length === 0 && ids.length === 0) await Promise.all([mounts.prune(), sent.prune()]);
      const bytes = sizeOf(removed);
      ctx.events.publish("builder", "prune", "", { reclaimed: String(bytes) });
      return { deleted: removed.map(({ key }) => key), bytes };
    },
  };
}

async function* rootOf(ctx: EngineContext, chainId: ChainID | undefined): AsyncIterable<Uint8Array> {
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
  await using solved = await solveBuild(ctx, options, report, signal);
  await solved.record(options.tags);
  for (const to of options.cacheTo) await solved.exportCache(to);
  return { id: solved.id, unusedArgs: solved.unusedArgs };
}

async function solveBuild(ctx: EngineContext, options: BuildOptions, report: Parameters<Builds["build"]>[1], signal: AbortSignal): Promise<SolvedBuild> {
  const folder = await mkdtemp(join(ctx.builds.workDir, "build-"));
  // Until the image is recorded, no prune may take its layers.
  const holds: { release(): void }[] = [ctx.layers.hold()];
  const release = () => {
    for (const hold of holds) hold.release();
  };
  try {
    const result = await solveIn({ ctx, folder, keep: (hold) => void holds.push(hold) }, options, report, signal);
    const config = options.inlineCache ? await withInlineCache(result.config, result.steps) : result.config;
    return solvedBuild(ctx, { ...result, id: digestOf(config), config }, { credentials: options.credentials, report, signal, release });
  } catch (error) {
    release();
    throw error;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function solveIn(
  { ctx, folder, keep }: { readonly ctx: EngineContext; readonly folder: string } & Pick<BuildRequest, "keep">,
  options: BuildOptions,
  report: Parameters<Builds["build"]>[1],
  signal: AbortSignal,
): Promise<BuildResult> {
  await using contexts = new BuildContexts(ctx, folder, signal);
  await using imports = new ImportedCaches(options.cacheFrom, { ctx, options, report, signal });
  await using agents = new AgentSockets(ctx.builds.runtimeDir, options.sshAgent);
  const { dockerfile, ignore, context } = await contexts.main(options);
  const [platform, ownPlatform] = [parsePlatform(options.platform), { os: hostPlatform.os, architecture: hostPlatform.architecture }];
  const { warnings, error } = lint(dockerfile, { ignore, predefined: platformArgs(platform, ownPlatform, ""), check: options.buildArgs[checkArg] });
  for (const warning of warnings) report({ kind: "lint", step: undefined, url: ruleUrl(warning.rule), ...warning });
  if (error !== undefined) throw new EngineError("invalid", error, { hint: warnings.map(({ detail, line }) => `line ${line}: ${detail}`).join("; ") });
  return await solve(
    { host: hostOf(ctx, folder, options.credentials, contexts), cache: ctx.builds.cache, caches: ctx.builds.mounts, known: ctx.builds.known },
    {
      dockerfile,
      context,
      namedContexts: contexts.named(options.namedContexts),
      target: options.target,
      buildArgs: options.buildArgs,
      labels: options.labels,
      platform,
      hostPlatform: ownPlatform,
      noCache: options.noCache,
      noCacheStages: options.noCacheStages,
      pull: options.pull,
      limits: options.limits,
      secret: options.secret,
      sshAgent: (id) => agents.socketOf(id),
      sourceDateEpoch: parseSourceDate(options.buildArgs["SOURCE_DATE_EPOCH"]),
      squash: options.squash,
      imports: imports.all,
      keep,
      keepContainers: options.keepContainers,
      leaveFailed: options.leaveFailed,
      signal,
      report,
    },
  );
}

function solvedBuild(
  ctx: EngineContext,
  { id, config, chainId, unusedArgs, steps }: BuildResult,
  { credentials, report, signal, release }: Pick<BuildRequest, "report" | "signal"> & Pick<BuildOptions, "credentials"> & { readonly release: () => void },
): SolvedBuild {
  return {
    id,
    config,
    unusedArgs,
    record: (tags) => recordImage(ctx, id, config, tags),
    openRoot: async () => (chainId === undefined ? undefined : openChain(ctx, chainId)),
    tar: () => rootOf(ctx, chainId),
    archive: (tags) => ctx.images.saveConfig(config, tags),
    exportCache: (to) => exportCache(to, { ctx, steps, credentials, report, signal }),
    [Symbol.asyncDispose]: async () => release(),
  };
}

async function recordImage(ctx: EngineContext, id: ImageID, config: Uint8Array, tags: readonly string[]): Promise<void> {
  const image = (await ctx.images.find(id)) ?? (await ctx.images.add(config));
  for (const tag of tags) await ctx.images.tag(image.id, tag);
  await ctx.imageIndex.refresh();
  for (const tag of tags) ctx.events.publish("image", "tag", image.id, { ...image.config.config?.Labels, name: tag });
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
  const request = { reference, ...(platform === "" ? {} : { platform }), credentials: await credentials(name.domain) };
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

function hostOf(ctx: EngineContext, workDir: string, credentials: BuildOptions["credentials"], contexts: BuildContexts): BuildHost {
  return {
    layers: ctx.layers,
    workDir,
    runtimeDir: ctx.builds.runtimeDir,
    image: (reference, how) => imageFor(ctx, reference, { ...how, credentials }),
    run: (request) => runBuildStep(ctx, request),
    openRoot: (chain) => openChain(ctx, chain),
    squash: (chain, parent, clampNs) => {
      const tar = squashedTar(ctx.layers.driver, ctx.helper, chain, parent);
      return ctx.layers.apply(parent, clampNs === undefined ? tar : clampTimes(tar, clampNs));
    },
    owner: (chain, text) => ownerOf(ctx, chain, text),
    git: (url, { keepGitDir }) => contexts.git(url, keepGitDir),
    record: async (config) => {
      await recordImage(ctx, digestOf(config), config, []);
      return digestOf(config);
    },
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
