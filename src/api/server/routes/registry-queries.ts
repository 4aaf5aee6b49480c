/** What is asked of registries: login, search, distribution, and wherry's own routes for manifests, catalogs and tags. @module */
import { EngineError } from "#core/errors.ts";
import type { SearchResult } from "#engine/mod.ts";
import { parseAuthHeader, parseCredentials } from "#api/types/auth.ts";
import { filterKeys, parseFilters } from "#api/types/filters.ts";
import type { RemoteManifestJson } from "#api/types/wherry-json.ts";
import type { ApiRequest, ApiResponse } from "#api/types/transport.ts";
import type { Context, Route } from "../router.ts";

const credentialsOf = ({ headers }: ApiRequest) => parseAuthHeader(headers["x-registry-auth"]);

/** `POST /auth`: docker sends what a header would hold. */
async function login(request: ApiRequest, { engine }: Context): Promise<ApiResponse> {
  const credentials = parseCredentials(Buffer.from(JSON.stringify((await request.json()) ?? {})));
  const identityToken = await engine.registries.login(credentials ?? {}, request.signal);
  return { kind: "json", status: 200, value: { Status: "Login Succeeded", IdentityToken: identityToken ?? "" } };
}

/** More than docker allows is refused as docker does. */
const maxSearch = 100;

async function search(request: ApiRequest, { engine }: Context): Promise<ApiResponse> {
  const { query, signal } = request;
  const limit = query.int("limit") ?? 25;
  if (limit < 1 || limit > maxSearch) throw new EngineError("invalid", `limit ${limit} is outside the range of [1, ${maxSearch}]`);
  const filters = parseFilters(query.text("filters"), filterKeys.search);
  const found = await engine.registries.search({ term: query.text("term"), limit, credentials: credentialsOf(request), signal });
  return { kind: "json", status: 200, value: found.filter((result) => matches(result, filters)).map(searchJson) };
}

function matches(result: SearchResult, filters: Readonly<Record<string, readonly string[]>>): boolean {
  const flag = (key: string, value: boolean) => (filters[key] ?? []).every((asked) => ["1", "true"].includes(asked) === value);
  return (
    flag("is-official", result.official) && flag("is-automated", result.automated) && (filters["stars"] ?? []).every((least) => result.stars >= Number(least))
  );
}

function searchJson({ name, description, stars, official, automated }: SearchResult): object {
  return { star_count: stars, is_official: official, name, is_automated: automated, description };
}

async function distribution(request: ApiRequest, { engine }: Context, name?: string): Promise<ApiResponse> {
  const { descriptor, platforms } = await engine.registries.distribution(name ?? "", credentialsOf(request), request.signal);
  return { kind: "json", status: 200, value: { Descriptor: descriptor, Platforms: platforms } };
}

async function manifest(request: ApiRequest, { engine }: Context, name?: string): Promise<ApiResponse> {
  const { bytes, digest, mediaType, platform } = await engine.registries.manifest(name ?? "", credentialsOf(request), request.signal);
  const content = Buffer.from(bytes).toString("utf8");
  const value: RemoteManifestJson = { digest, mediaType, size: bytes.byteLength, content, platform: platform ?? null };
  return { kind: "json", status: 200, value };
}

async function putManifest(request: ApiRequest, { engine }: Context, name?: string): Promise<ApiResponse> {
  const body = (await request.json()) as { readonly content?: unknown; readonly mediaType?: unknown } | undefined;
  if (typeof body?.content !== "string" || typeof body.mediaType !== "string") throw new EngineError("invalid", "a manifest has content and mediaType");
  const blobsFrom = request.query.text("from");
  const digest = await engine.registries.putManifest({
    name: name ?? "",
    bytes: Buffer.from(body.content),
    mediaType: body.mediaType,
    ...(blobsFrom === "" ? {} : { blobsFrom }),
    credentials: credentialsOf(request),
    signal: request.signal,
  });
  return { kind: "json", status: 201, value: { digest } };
}

export const registryRoutes: readonly Route[] = [
  ["POST", "/auth", login],
  ["GET", "/images/search", search],
  ["GET", "/distribution/{name:.*}/json", distribution],
  ["GET", "/wherry/manifests/{name:.*}", manifest],
  ["PUT", "/wherry/manifests/{name:.*}", putManifest],
  [
    "GET",
    "/wherry/registries/{host}/catalog",
    async (request, { engine }, host) => ({ kind: "json", status: 200, value: await engine.registries.catalog(host!, credentialsOf(request), request.signal) }),
  ],
  [
    "GET",
    "/wherry/tags/{name:.*}",
    async (request, { engine }, name) => ({ kind: "json", status: 200, value: await engine.registries.tags(name!, credentialsOf(request), request.signal) }),
  ],
];
