/**
 * Which names mean which containers, network by network. Pure.
 * @module
 */

/** A container on a network, as others there may name it. */
export interface NamedEndpoint {
  readonly containerId: string;
  readonly networkId: string;
  readonly networkName: string;
  /** Its name, aliases and short id. */
  readonly names: readonly string[];
  /** Names that only this container knows (`--link db:database`): alias → name. */
  readonly links: Readonly<Record<string, string>>;
  readonly ipv4: string;
  readonly ipv6: string;
}

/** Where a name leads. */
export interface Found {
  readonly network: string;
  readonly endpoints: readonly NamedEndpoint[];
}

export class NameTable {
  readonly #own = new Map<string, NamedEndpoint[]>();
  readonly #byName = new Map<string, NamedEndpoint[]>();
  readonly #byAddress = new Map<string, NamedEndpoint>();

  constructor(endpoints: Iterable<NamedEndpoint>) {
    for (const endpoint of endpoints) {
      push(this.#own, endpoint.containerId, endpoint);
      for (const name of endpoint.names) push(this.#byName, `${endpoint.networkId} ${name.toLowerCase()}`, endpoint);
      for (const address of [endpoint.ipv4, endpoint.ipv6]) if (address !== "") this.#byAddress.set(`${endpoint.networkId} ${address}`, endpoint);
    }
  }

  /** What a name means to a container: in the first of its networks that knows it, or in the one that it names (`web.backend`). */
  find(containerId: string, asked: string): Found | undefined {
    const name = asked.toLowerCase();
    for (const own of this.#own.get(containerId) ?? []) {
      const suffix = `.${own.networkName.toLowerCase()}`;
      const found = this.#in(own, name) ?? (name.endsWith(suffix) ? this.#in(own, name.slice(0, -suffix.length)) : undefined);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** In all networks. */
  findAll(asked: string): Found[] {
    const found = [...this.#byName.entries()].filter(([key]) => key.endsWith(` ${asked.toLowerCase()}`));
    return found.map(([, endpoints]) => ({ network: endpoints[0]?.networkName ?? "", endpoints }));
  }

  #in(own: NamedEndpoint, name: string): Found | undefined {
    const linked = Object.entries(own.links).find(([alias]) => alias.toLowerCase() === name)?.[1];
    const endpoints = this.#byName.get(`${own.networkId} ${(linked ?? name).toLowerCase()}`);
    return endpoints === undefined ? undefined : { network: own.networkName, endpoints };
  }

  /** `web.backend` for an address in one of the container's networks. */
  nameOf(containerId: string, address: string): string | undefined {
    for (const own of this.#own.get(containerId) ?? []) {
      const found = this.#byAddress.get(`${own.networkId} ${address}`);
      if (found !== undefined) return `${found.names[0] ?? found.containerId.slice(0, 12)}.${found.networkName}`;
    }
    return undefined;
  }
}

function push<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}

/** The address that a name for reverse lookup stands for; undefined when it is none. */
export function addressOfReverse(name: string): string | undefined {
  const lower = name.toLowerCase();
  const four = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.in-addr\.arpa$/.exec(lower);
  if (four !== null) return four.slice(1).reverse().join(".");
  const six = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(lower)?.[1];
  if (six === undefined) return undefined;
  const digits = six.split(".").slice(0, 32).reverse().join("");
  // a URL writes an IPv6 address in its shortest form, as all addresses here are
  return new URL(`http://[${(digits.match(/.{4}/g) ?? []).join(":")}]`).hostname.slice(1, -1);
}
