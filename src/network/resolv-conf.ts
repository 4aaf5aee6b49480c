/**
 * The resolv.conf of a container.
 * @module
 * @see resolv.conf(5)
 */

export interface ResolverOptions {
  readonly dns: readonly string[] | null;
  readonly search: readonly string[] | null;
  readonly options: readonly string[] | null;
}

interface ResolvConf {
  readonly nameservers: readonly string[];
  readonly search: readonly string[];
  readonly options: readonly string[];
}

/** The last `search` or `domain` line counts; comments start with # or ;. */
export function parseResolvConf(text: string): ResolvConf {
  const nameservers: string[] = [];
  let search: string[] = [];
  const options: string[] = [];
  for (const line of text.split("\n")) {
    const [keyword, ...words] = line
      .replace(/[#;].*/, "")
      .trim()
      .split(/\s+/);
    if (keyword === "nameserver" && words[0] !== undefined) nameservers.push(words[0]);
    else if (keyword === "search" || keyword === "domain") search = words;
    else if (keyword === "options") options.push(...words);
  }
  return { nameservers, search, options };
}

const isLoopback = (address: string): boolean => /^127\./.test(address) || address === "::1";
/** `fe80::1%eth0` means something on the host only. */
const isLinkLocal = (address: string): boolean => /^fe[89ab]/i.test(address);

/** The host's resolvers that a process in another network namespace can ask: one at a loopback address is another machine's there, or nobody's. */
export function reachableResolvers(hostText: string): string[] {
  return parseResolvConf(hostText).nameservers.filter((address) => !isLoopback(address) && !isLinkLocal(address));
}

/**
 * Where the container finds its names: `host`: it shares the host's network, where the host's file holds as it is; `direct`: it asks the resolvers itself;
 * `embedded`: it asks the server at this address, which asks them.
 */
export type NameSource = "host" | "direct" | { readonly embedded: string };

/** Docker's rules: given lists replace the host's. */
export function buildResolvConf(hostText: string, { dns, search, options }: ResolverOptions, source: NameSource): string {
  const host = parseResolvConf(hostText);
  const given = (list: readonly string[] | null): readonly string[] | undefined => (list !== null && list.length > 0 ? list : undefined);
  if (source === "host" && given(dns) === undefined && given(search) === undefined && given(options) === undefined) return hostText;

  const embedded = typeof source === "object" ? source.embedded : undefined;
  const nameservers = embedded === undefined ? (given(dns) ?? (source === "host" ? host.nameservers : reachableResolvers(hostText))) : [embedded];
  // `--dns-search .` means: no search list
  const searchList = (given(search) ?? host.search).filter((domain) => domain !== ".");
  const wanted = given(options) ?? host.options;
  // a name without a dot is a container's: it is asked for as it is, before the search list
  const optionList = embedded === undefined || wanted.some((option) => option.startsWith("ndots:")) ? wanted : [...wanted, "ndots:0"];
  return [
    ...nameservers.map((address) => `nameserver ${address}\n`),
    ...(searchList.length > 0 ? [`search ${searchList.join(" ")}\n`] : []),
    ...(optionList.length > 0 ? [`options ${optionList.join(" ")}\n`] : []),
  ].join("");
}
