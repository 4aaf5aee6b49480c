/** What is asked of registries without taking an image in: login, search, manifests, what a name means. @module */
import { digestOf } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import type { Platform } from "#core/image-spec.ts";
import { isAttestation, maxManifestBytes, parseManifest } from "#core/manifest.ts";
import { familiarString, parseReference, type Reference, withDefaultTag } from "#core/reference.ts";
import { maxConfigBytes, parseImageConfig } from "#image/mod.ts";
import { type Credentials, type RegistrySession, RepositoryWriter } from "#registry/mod.ts";
import type { EngineContext } from "./context.ts";
import type { RegistryQueries, SearchResult } from "./mod.ts";

export function registryQueriesOf(ctx: EngineContext): RegistryQueries {
  const open = (domain: string, credentials: Credentials | undefined, signal?: AbortSignal, withoutMirrors = false) =>
    ctx.registries.open({ domain, credentials, signal, withoutMirrors });
  return {
    login: async (credentials, signal) => {
      await using session = await open(domainOf(credentials.serverAddress ?? ""), credentials, signal, true);
      return (await session.login()).identityToken;
    },
    search: async ({ term, limit, credentials, signal }) => {
      const { domain, words } = searchTarget(term);
      await using session = await open(domain, credentials, signal, true);
      return await search(session, words, limit);
    },
    distribution: async (name, credentials, signal) => {
      const reference = withDefaultTag(parseReference(name));
      await using session = await open(reference.domain, credentials, signal);
      return await distribution(session, reference);
    },
    manifest: async (name, credentials, signal) => {
      const reference = withDefaultTag(parseReference(name));
      await using session = await open(reference.domain, credentials, signal);
      const { bytes, digest, mediaType } = await session.manifest(reference.path, wanted(reference));
      const parsed = parseManifest(bytes, mediaType, `manifest for ${familiarString(reference)}`);
      return { bytes, digest, mediaType: parsed.mediaType, platform: await platformOf(session, reference, parsed) };
    },
    putManifest: async ({ name, bytes, mediaType, blobsFrom, credentials, signal }) => {
      const reference = withDefaultTag(parseReference(name));
      if (bytes.byteLength > maxManifestBytes) throw new EngineError("invalid", `a manifest has at most ${maxManifestBytes} bytes`);
      await using session = await open(reference.domain, credentials, signal, true);
      const writer = new RepositoryWriter(session, reference.path);
      if (blobsFrom !== undefined) await mountBlobs(writer, bytes, mediaType, parseReference(blobsFrom), reference);
      const digest = digestOf(bytes);
      await writer.putManifest(bytes, mediaType, wanted(reference), digest);
      return digest;
    },
    catalog: async (domain, credentials, signal) => {
      await using session = await open(domainOf(domain), credentials, signal, true);
      return await session.catalog(maxCatalog);
    },
    tags: async (name, credentials, signal) => {
      const reference = parseReference(name);
      await using session = await open(reference.domain, credentials, signal);
      return await session.tags(reference.path);
    },
  };
}

const maxCatalog = 100_000;

function wanted({ digest, tag }: Reference): string {
  return digest ?? tag ?? "latest";
}

/** `https://index.docker.io/v1/` and nothing mean Docker Hub; else the host. */
function domainOf(address: string): string {
  const host = address.replace(/^https?:\/\//i, "").split("/")[0] ?? "";
  return host === "" || host === "index.docker.io" || host === "registry-1.docker.io" ? "docker.io" : parseReference(`${host}/x`).domain;
}

/** The first part is a host where it looks like one. */
function searchTarget(term: string): { readonly domain: string; readonly words: string } {
  if (term.includes("://")) throw new EngineError("invalid", `invalid repository name: repository name (${term.slice(0, 200)}) should not have a scheme`);
  const slash = term.indexOf("/");
  const first = term.slice(0, Math.max(0, slash));
  if (slash < 0 || !(/[.:]/.test(first) || first === "localhost")) return { domain: "docker.io", words: term };
  return { domain: domainOf(first), words: term.slice(slash + 1) };
}

/** Docker's search where the registry has one; else the names in its catalog. */
async function search(session: RegistrySession, words: string, limit: number): Promise<SearchResult[]> {
  const found = await session.searchV1(words, limit);
  if (found !== undefined) return (found.list("results") ?? []).slice(0, limit).map(resultOf);
  const names = await session.catalog(maxCatalog);
  return names
    .filter((name) => name.includes(words.toLowerCase()))
    .slice(0, limit)
    .map((name) => ({ name, description: "", stars: 0, official: false, automated: false }));
}

function resultOf(item: unknown): SearchResult {
  const fields = (typeof item === "object" && item !== null ? item : {}) as Readonly<Record<string, unknown>>; // read field by field
  const text = (key: string) => (typeof fields[key] === "string" ? fields[key] : "");
  return {
    name: text("name"),
    description: text("description"),
    stars: Number(fields["star_count"]) || 0,
    official: fields["is_official"] === true,
    automated: false,
  };
}

async function distribution(session: RegistrySession, reference: Reference): Promise<Awaited<ReturnType<RegistryQueries["distribution"]>>> {
  const { bytes, digest, mediaType } = await session.manifest(reference.path, wanted(reference));
  const parsed = parseManifest(bytes, mediaType, `manifest for ${familiarString(reference)}`);
  const descriptor = { mediaType: parsed.mediaType, digest, size: bytes.byteLength };
  if (parsed.kind === "index") {
    return {
      descriptor,
      platforms: parsed.manifests.filter((entry) => !isAttestation(entry)).flatMap(({ platform }) => (platform === undefined ? [] : [platform])),
    };
  }
  const platform = await platformOf(session, reference, parsed);
  return { descriptor, platforms: platform === undefined ? [] : [platform] };
}

/** What the image's configuration says; undefined for an index, and for what is no image. */
async function platformOf(session: RegistrySession, reference: Reference, parsed: ReturnType<typeof parseManifest>): Promise<Platform | undefined> {
  if (parsed.kind === "index") return undefined;
  let fields: ReturnType<typeof parseImageConfig>["config"];
  try {
    fields = parseImageConfig(await session.smallBlob(reference.path, parsed.config, maxConfigBytes)).config;
  } catch (error) {
    // Something else than an image that runs here: there is nothing to say of where it runs.
    if (isEngineError(error, "corrupt") || isEngineError(error, "unsupported")) return undefined;
    throw error;
  }
  const { architecture, os, variant } = fields;
  return { architecture, os, ...(variant === undefined ? {} : { variant }) };
}

/** A manifest that comes from another repository needs its blobs here. */
async function mountBlobs(writer: RepositoryWriter, bytes: Uint8Array, mediaType: string, from: Reference, to: Reference): Promise<void> {
  const parsed = parseManifest(bytes, mediaType, "the manifest");
  if (parsed.kind === "index" || from.path === to.path) return;
  for (const { digest } of [parsed.config, ...parsed.layers]) {
    if ((await writer.has(digest)) !== undefined) continue;
    if (from.domain === to.domain && (await writer.mount(digest, from.path))) continue;
    throw new EngineError("not-found", `blob ${digest} of ${familiarString(from)} is not in ${familiarString(to)}, and cannot be mounted there`, {
      hint: "push that image to the same registry first, or use wherry image copy",
    });
  }
}
