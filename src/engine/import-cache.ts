/** Caches of builds elsewhere: described by a manifest of their own, or in an image's config. Layers stay there until a step needs them. @module */
import { Readable } from "node:stream";
import { cacheConfigType, inlineCacheField, maxDescriptionBytes, parseCache, type PortableStep } from "#build/cache/portable.ts";
import type { Layer } from "#build/solver/host.ts";
import type { ImportedCache } from "#build/solver/imported-cache.ts";
import { type Report, reportTask } from "#build/solver/progress.ts";
import { type ChainID, chainOf, type DiffID, digestOf, type Digest } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import type { Descriptor } from "#core/image-spec.ts";
import { isObject, parseJson } from "#core/json.ts";
import { configTypes, maxManifestBytes } from "#core/manifest.ts";
import { parseReference, withDefaultTag } from "#core/reference.ts";
import { maxConfigBytes, parseImageConfig, parsePlatform } from "#image/mod.ts";
import type { RegistrySession } from "#registry/mod.ts";
import type { EngineContext } from "./context.ts";
import { type ManifestBytes, manifestOf } from "./image-manifest.ts";
import { LayoutDirectory } from "./layout-directory.ts";
import type { BlobPlace, BuildOptions, CacheFrom } from "./mod.ts";
import { fetchLayers } from "./pull-layers.ts";

/** What is read of where a cache lies. */
interface Reader {
  manifest(digest: Digest | undefined): Promise<ManifestBytes>;
  /** A small blob, verified. */
  small(blob: Descriptor, maxBytes: number): Promise<Uint8Array>;
  size(digest: Digest): Promise<number | undefined>;
  readonly source: ReturnType<RegistrySession["blobSource"]>;
}

interface Opened {
  readonly steps: ReadonlyMap<string, PortableStep>;
  /** What layers are there as. */
  readonly blobs: ReadonlyMap<DiffID, Descriptor>;
  /** undefined: its layers are here. */
  readonly reader: Reader | undefined;
}

interface Asking {
  readonly ctx: EngineContext;
  readonly options: Pick<BuildOptions, "credentials" | "platform">;
  readonly report: Report;
  readonly signal: AbortSignal;
}

/** The caches that a build names, in the order in which they are asked. Disposing ends what was begun with registries. */
export class ImportedCaches implements AsyncDisposable {
  readonly all: readonly ImportedCache[];
  readonly #open: AsyncDisposable[] = [];

  constructor(sources: readonly CacheFrom[], asking: Asking) {
    const adopt = <T extends AsyncDisposable>(one: T) => {
      this.#open.push(one);
      return one;
    };
    this.all = sources.flatMap((source): ImportedCache[] => {
      if (source.kind !== "registry") {
        const place = source.kind === "place" ? source.place : new LayoutDirectory(source.path, source.wanted);
        return [new Imported(place.name, () => described(place.name, readerOf(place, asking), asking), asking)];
      }
      const { reference } = source;
      const inRegistry = async () => {
        const name = withDefaultTag(parseReference(reference));
        const session = adopt(
          await asking.ctx.registries.open({ domain: name.domain, credentials: await asking.options.credentials(name.domain), signal: asking.signal }),
        );
        return described(reference, registryReader(session, name.path, name.digest ?? name.tag ?? "latest"), asking);
      };
      return [new LocalImage(reference, asking.ctx), new Imported(reference, inRegistry, asking)];
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const one of this.#open) await one[Symbol.asyncDispose]();
  }
}

/** One that has to be asked for. */
class Imported implements ImportedCache {
  readonly name: string;
  readonly #asking: Asking;
  readonly #open: () => Promise<Opened>;
  #opened: Promise<Opened | undefined> | undefined;

  constructor(name: string, open: () => Promise<Opened>, asking: Asking) {
    this.name = name;
    this.#open = open;
    this.#asking = asking;
  }

  async find(key: string): Promise<PortableStep | undefined> {
    return (await this.#description())?.steps.get(key);
  }

  async fetch(diffId: DiffID, parent: ChainID | undefined, signal: AbortSignal): Promise<Layer> {
    const { ctx } = this.#asking;
    const chain = chainOf(parent, diffId);
    if (!(await ctx.layers.has(chain))) {
      const { reader, blobs } = (await this.#description())!; // find() has seen it
      const descriptor = blobs.get(diffId);
      if (descriptor === undefined || reader === undefined) throw new EngineError("corrupt", `it does not say where layer ${diffId} is`);
      const size = await reader.size(descriptor.digest);
      if (size !== descriptor.size) throw new EngineError("corrupt", `blob ${descriptor.digest} has ${size ?? "no"} bytes, not ${descriptor.size}`);
      await ctx.budget.makeRoom(async () => size);
      await fetchLayers({ ctx, onEvent: () => undefined, signal }, [{ descriptor, diffId, chain, parent }], reader.source);
    }
    return { diffId, chainId: chain, size: await ctx.layers.size(chain) };
  }

  #description(): Promise<Opened | undefined> {
    this.#opened ??= reportTask(this.#asking.report, `importing cache manifest from ${this.name}`, this.#open).catch((error: unknown) => {
      // It was reported: a cache that cannot be read answers nothing.
      if (!isEngineError(error) || this.#asking.signal.aborted) throw error;
      return undefined;
    });
    return this.#opened;
  }
}

/** An image of that name which is here and has a cache in it: its layers are here as well. */
class LocalImage implements ImportedCache {
  readonly name: string;
  readonly #ctx: EngineContext;
  #steps: Promise<Opened["steps"]> | undefined;

  constructor(name: string, ctx: EngineContext) {
    this.name = name;
    this.#ctx = ctx;
  }

  async find(key: string): Promise<PortableStep | undefined> {
    this.#steps ??= this.#read();
    return (await this.#steps).get(key);
  }

  async fetch(diffId: DiffID, parent: ChainID | undefined): Promise<Layer> {
    const chain = chainOf(parent, diffId);
    if (!(await this.#ctx.layers.has(chain))) throw new EngineError("not-found", `layer ${diffId} is not here any more`);
    return { diffId, chainId: chain, size: await this.#ctx.layers.size(chain) };
  }

  async #read(): Promise<Opened["steps"]> {
    const image = await this.#ctx.images.find(this.name);
    return (image === undefined ? undefined : inlineCache(image.rawConfig, this.name))?.steps ?? new Map();
  }
}

function inlineCache(config: Uint8Array, what: string): ReturnType<typeof parseCache> | undefined {
  const json = parseJson(config, what);
  const inline = isObject(json) ? json[inlineCacheField] : undefined;
  return inline === undefined ? undefined : parseCache(inline, `the cache in ${what}`);
}

async function described(name: string, reader: Reader, { options }: Asking): Promise<Opened> {
  const { manifest } = await manifestOf(await reader.manifest(undefined), {
    platform: options.platform === "" ? undefined : parsePlatform(options.platform),
    fetch: (digest) => reader.manifest(digest),
    nameOf: (digest) => `manifest ${digest}`,
    onIndex: (manifests) => {
      if (manifests.some(isOfBuildKit)) throw ofBuildKit();
    },
  });
  const { config, layers } = manifest;
  if (isOfBuildKit(config)) throw ofBuildKit();
  if (config.mediaType === cacheConfigType) {
    const cache = parseCache(parseJson(await reader.small(config, maxDescriptionBytes), "the cache's description"), "the cache's description");
    return { steps: cache.steps, blobs: blobsOf(cache.layers, layers), reader };
  }
  if (!configTypes.has(config.mediaType)) throw new EngineError("unsupported", `it is no build cache, but of type "${config.mediaType.slice(0, 100)}"`);
  const image = parseImageConfig(await reader.small(config, maxConfigBytes));
  const inline = inlineCache(image.rawConfig, name);
  if (inline === undefined) throw new EngineError("not-found", "the image has no cache in it: it was not built with --cache-to type=inline");
  return { steps: inline.steps, blobs: blobsOf(image.diffIds, layers), reader };
}

function blobsOf(diffIds: readonly DiffID[], blobs: readonly Descriptor[]): Map<DiffID, Descriptor> {
  if (diffIds.length !== blobs.length) throw new EngineError("corrupt", `the manifest has ${blobs.length} layers, its description ${diffIds.length}`);
  return new Map(diffIds.map((diffId, i) => [diffId, blobs[i]!]));
}

function isOfBuildKit({ mediaType }: Descriptor): boolean {
  return mediaType.startsWith("application/vnd.buildkit.cacheconfig.");
}

function ofBuildKit(): EngineError {
  return new EngineError("unsupported", "it is a cache of BuildKit's own: its keys are of BuildKit's operations, and mean nothing here");
}

function registryReader(session: RegistrySession, path: string, reference: string): Reader {
  return {
    manifest: (digest) => session.manifest(path, digest ?? reference),
    small: (blob, maxBytes) => session.smallBlob(path, blob, maxBytes),
    size: (digest) => session.blobSize(path, digest),
    source: session.blobSource(path),
  };
}

function readerOf(place: BlobPlace, { ctx, signal }: Asking): Reader {
  const small = async (digest: Digest, maxBytes: number) => {
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of place.read(digest, signal)) {
      bytes += chunk.byteLength;
      if (bytes > maxBytes) throw new EngineError("corrupt", `blob ${digest} has more than ${maxBytes} bytes`);
      chunks.push(chunk);
    }
    const all = Buffer.concat(chunks);
    if (digestOf(all) !== digest)
      throw new EngineError("corrupt", `blob verification failed for digest ${digest}: its content has the digest ${digestOf(all)}`);
    return all;
  };
  const { clock, config } = ctx.registries;
  return {
    async manifest(wanted) {
      const digest = wanted ?? (await place.manifest());
      if (digest === undefined) throw new EngineError("not-found", "there is no cache of that name");
      return { bytes: await small(digest, maxManifestBytes), mediaType: undefined, digest };
    },
    small: ({ digest, size }, maxBytes) => small(digest, Math.min(size, maxBytes)),
    size: (digest) => place.size(digest),
    source: {
      fetch: async (digest, _offset, abort) => ({
        url: new URL(`blob:${digest}`),
        // The whole, wherever it was to begin.
        status: 200,
        header: () => undefined,
        body: Readable.from(place.read(digest, abort), { objectMode: false }),
        slowest: config.slowest,
      }),
      clock,
      slowest: config.slowest,
    },
  };
}
