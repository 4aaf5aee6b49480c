/** How registries are reached, of wherryd's flags and its configuration file; the names are dockerd's. @module */
import { isIP } from "node:net";
import { resolve } from "node:path";
import { parseBytes } from "#core/byte-size.ts";
import { isEngineError } from "#core/errors.ts";
import { defaultRegistryConfig, mirrorUrl, type RegistryConfig } from "#registry/mod.ts";

export const registryHelp = `      --insecure-registry HOST    A registry (host[:port] or a range of addresses) without TLS, or with a certificate that nobody
                              knows; may be given more than once (loopback always is one)
      --registry-mirror URL   Asked before Docker Hub, or with REGISTRY=URL before that registry; may be given more than once
      --registry-cache DIR    Keep compressed layers there, for further pulls and pushes, in the form that "wherry cache serve" has
      --registry-cache-size BYTES    What they may take (default 20g); the least recently used go
      --max-concurrent-downloads N   Layers that are fetched at the same time (default 3)
      --max-concurrent-uploads N     Layers of a push that are sent at the same time (default 5)
      --http-proxy URL, --https-proxy URL, --no-proxy LIST
                              Proxies for registries (default: HTTP_PROXY, HTTPS_PROXY and NO_PROXY of the environment)
`;

export const registryFlags = {
  "insecure-registry": { type: "string", multiple: true },
  "registry-mirror": { type: "string", multiple: true },
  "registry-cache": { type: "string" },
  "registry-cache-size": { type: "string" },
  "max-concurrent-downloads": { type: "string" },
  "max-concurrent-uploads": { type: "string" },
  "http-proxy": { type: "string" },
  "https-proxy": { type: "string" },
  "no-proxy": { type: "string" },
} as const;

/** The same in `daemon.json`. */
export interface RegistryFile {
  readonly "insecure-registries"?: string[];
  readonly "registry-mirrors"?: string[];
  readonly "registry-cache"?: string;
  readonly "registry-cache-size"?: string | number;
  readonly "max-concurrent-downloads"?: number;
  readonly "max-concurrent-uploads"?: number;
  readonly proxies?: Record<string, string>;
}

type Given = { readonly [F in keyof typeof registryFlags]?: (typeof registryFlags)[F] extends { multiple: true } ? string[] : string };

/** `bad` makes the error for what is wrong. */
export function registryConfig(
  given: Given,
  file: RegistryFile,
  env: Readonly<Record<string, string | undefined>>,
  bad: (message: string) => Error,
): RegistryConfig {
  const defaults = defaultRegistryConfig(env);
  const count = (flag: "max-concurrent-downloads" | "max-concurrent-uploads", usual: number): number => {
    const value = Number(given[flag] ?? file[flag] ?? usual);
    if (!Number.isInteger(value) || value < 1 || value > 100) throw bad(`invalid --${flag} "${given[flag] ?? file[flag]}": use a number from 1 to 100`);
    return value;
  };
  const proxy = (kind: "http-proxy" | "https-proxy" | "no-proxy", usual: string | undefined) => given[kind] ?? file.proxies?.[kind] ?? usual;
  const [http, https, none] = [proxy("http-proxy", defaults.proxy.http), proxy("https-proxy", defaults.proxy.https), proxy("no-proxy", defaults.proxy.none)];
  return {
    ...defaults,
    insecure: (given["insecure-registry"] ?? file["insecure-registries"] ?? []).map((entry) => insecureEntry(entry, bad)),
    mirrors: mirrorsOf(given["registry-mirror"] ?? file["registry-mirrors"] ?? [], bad),
    proxy: { ...(http ? { http } : {}), ...(https ? { https } : {}), ...(none ? { none } : {}) },
    ...cacheOf(given, file, bad),
    maxDownloads: count("max-concurrent-downloads", defaults.maxDownloads),
    maxUploads: count("max-concurrent-uploads", defaults.maxUploads),
  };
}

function cacheOf(given: Given, file: RegistryFile, bad: (message: string) => Error): Pick<RegistryConfig, "cache"> {
  const directory = given["registry-cache"] ?? file["registry-cache"] ?? "";
  if (directory === "") return {};
  const size = String(given["registry-cache-size"] ?? file["registry-cache-size"] ?? "20g");
  const maxBytes = parseBytes(size);
  if (maxBytes === undefined || maxBytes <= 0) throw bad(`invalid --registry-cache-size "${size}": use bytes, or 500m, 20g`);
  return { cache: { directory: resolve(directory), maxBytes } };
}

function insecureEntry(entry: string, bad: (message: string) => Error): string {
  // As docker, a scheme is a mistake that people make, and is dropped.
  const host = entry.replace(/^https?:\/\//i, "").replace(/\/$/, "");
  const [address = "", bits] = host.split("/");
  const range = bits !== undefined && isIP(address) !== 0 && /^\d{1,3}$/.test(bits) && Number(bits) <= (isIP(address) === 4 ? 32 : 128);
  if (!range && !/^(?:[a-z0-9._-]+|\[[0-9a-f:]+\])(?::\d{1,5})?$/i.test(host))
    throw bad(`insecure registry ${entry} is not valid: use host, host:port or a range of addresses`);
  return host;
}

function mirrorsOf(entries: readonly string[], bad: (message: string) => Error): Record<string, string[]> {
  const mirrors: Record<string, string[]> = {};
  for (const entry of entries) {
    const [, registry = "docker.io", url = ""] = /^(?:([^/=]+)=)?(.*)$/s.exec(entry) ?? [];
    try {
      mirrorUrl(url);
    } catch (error) {
      throw isEngineError(error) ? bad(error.message) : error;
    }
    mirrors[registry] = [...(mirrors[registry] ?? []), url];
  }
  return mirrors;
}
