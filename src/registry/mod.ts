/**
 * The distribution protocol, from a client's side: what a name means at a registry, and its bytes in both directions. A {@link Registries} knows how registries are reached (mirrors,
 * certificates, proxies); a {@link RegistrySession} is one conversation with one of them, with one set of credentials; {@link Downloads} keeps what arrives until somebody has taken it in.
 * Everything that a registry says is outside input: bounded, and verified by digest before it is believed.
 * @module
 * @see https://github.com/opencontainers/distribution-spec/blob/main/spec.md
 */
export type { Credentials } from "./credentials.ts";
export { CacheServer, type CacheServerOptions } from "./cache/cache-server.ts";
export { CacheStore } from "./cache/cache-store.ts";
export { SharedSessions } from "./cache/shared-sessions.ts";
export { Upstreams } from "./cache/upstreams.ts";
export { type BlobKeeper, type Download, Downloads } from "./downloads.ts";
export { mirrorUrl } from "./endpoints.ts";
export { defaultRegistryConfig, type RegistryConfig } from "./config.ts";
export { Registries } from "./registries.ts";
export { SharedWork } from "./shared-work.ts";
export { RepositoryWriter } from "./uploads.ts";
export type { FetchedManifest, RegistrySession } from "./session.ts";
