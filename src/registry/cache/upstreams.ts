/** Which repository a request means. @module */
import { isEngineError } from "#core/errors.ts";
import { parseReference } from "#core/reference.ts";

/** A repository of a registry. */
export interface Repository {
  readonly domain: string;
  readonly path: string;
  /** `domain/path` */
  readonly name: string;
}

export class Upstreams {
  /** The first is meant by names that begin with no registry. */
  readonly domains: readonly string[];

  constructor(domains: readonly string[]) {
    this.domains = domains;
  }

  /**
   * `library/busybox` is the first upstream's; `ghcr.io/owner/image` is that registry's when it is one of the upstreams. `prefix`: the registry in front of `/v2/`, or containerd's `ns`.
   * Undefined: no such name, or a registry that this cache is not for.
   */
  resolve(path: string, prefix: string | undefined): Repository | undefined {
    const first = path.slice(0, Math.max(0, path.indexOf("/")));
    if (prefix !== undefined) return this.#checked(prefix, path);
    if (this.domains.includes(first)) return this.#checked(first, path.slice(first.length + 1));
    return this.#checked(this.domains[0] ?? "", path);
  }

  /** As clients of this cache name it. */
  nameOf({ domain, path }: Pick<Repository, "domain" | "path">): string {
    return domain === this.domains[0] ? path : `${domain}/${path}`;
  }

  #checked(domain: string, path: string): Repository | undefined {
    if (!this.domains.includes(domain)) return undefined;
    try {
      const parsed = parseReference(`${domain}/${path}`);
      if (parsed.domain !== domain || parsed.tag !== undefined || parsed.digest !== undefined) return undefined;
      return { domain, path: parsed.path, name: `${domain}/${parsed.path}` };
    } catch (error) {
      if (isEngineError(error, "invalid")) return undefined;
      throw error;
    }
  }
}
