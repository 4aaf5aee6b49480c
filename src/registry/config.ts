import { type SlowestPace, slowestPace } from "./pace.ts";

/** How registries are reached: what `wherryd`'s flags and its environment say. */
export interface RegistryConfig {
  /** Hosts (`example.com`, `example.com:5000`) and ranges of addresses (`10.0.0.0/8`) where certificates are not verified and plain HTTP will do. Loopback always is one. */
  readonly insecure: readonly string[];
  /** By registry (`docker.io`), the addresses that are asked before it, in order. */
  readonly mirrors: Readonly<Record<string, readonly string[]>>;
  /** Directories of `<host>/{*.crt,*.cert,*.key}`, as docker's certs.d. */
  readonly certDirectories: readonly string[];
  /** A PEM file of further authorities for every host (NODE_EXTRA_CA_CERTS). */
  readonly extraAuthorities?: string;
  readonly proxy: ProxyConfig;
  /** A layer that unpacks to more than this, and to more than 500 times its size, is taken for a bomb. */
  readonly maxUnpackedBytes: number;
  /** Compressed layers are kept there: another pull, or push, of them needs no registry. */
  readonly cache?: { readonly directory: string; readonly maxBytes: number };
  /** At the same time, over all pulls. */
  readonly maxDownloads: number;
  /** What sends more slowly is asked again, and given up in the end. */
  readonly slowest: SlowestPace;
  /** At the same time, of one push. */
  readonly maxUploads: number;
}

export interface ProxyConfig {
  readonly http?: string;
  readonly https?: string;
  /** As NO_PROXY: hosts, domains, addresses and ranges, separated by commas; `*` = everything. */
  readonly none?: string;
}

/** What docker does when nobody has said anything; proxies and authorities come from the environment. */
export function defaultRegistryConfig(env: Readonly<Record<string, string | undefined>> = {}): RegistryConfig {
  const first = (...names: string[]) => names.map((name) => env[name]).find((value) => value !== undefined && value !== "");
  // An upper-case HTTP_PROXY in a CGI program comes from the request, but wherryd is none.
  const [http, https, none] = [first("HTTP_PROXY", "http_proxy"), first("HTTPS_PROXY", "https_proxy"), first("NO_PROXY", "no_proxy")];
  const authorities = first("WHERRY_EXTRA_CA_CERTS", "NODE_EXTRA_CA_CERTS");
  return {
    insecure: [],
    mirrors: {},
    certDirectories: ["/etc/docker/certs.d", "/etc/wherry/certs.d"],
    ...(authorities === undefined ? {} : { extraAuthorities: authorities }),
    proxy: { ...(http === undefined ? {} : { http }), ...(https === undefined ? {} : { https }), ...(none === undefined ? {} : { none }) },
    maxUnpackedBytes: 8 * 2 ** 30,
    slowest: slowestPace,
    maxDownloads: 3,
    maxUploads: 5,
  };
}
