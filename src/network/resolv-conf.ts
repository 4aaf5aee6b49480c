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

/** What a host without a usable resolver is given, as Docker gives it. */
const FALLBACK = ["8.8.8.8", "8.8.4.4"];

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

/**
 * Docker's rules: given lists replace the host's; resolvers at loopback addresses are of no use in another network namespace; without any, `FALLBACK`.
 * `ownNamespace`: false when the container shares the host's network, where the host's file holds as it is.
 */
export function buildResolvConf(hostText: string, { dns, search, options }: ResolverOptions, ownNamespace: boolean): string {
  const host = parseResolvConf(hostText);
  const given = (list: readonly string[] | null): readonly string[] | undefined => (list !== null && list.length > 0 ? list : undefined);
  if (!ownNamespace && given(dns) === undefined && given(search) === undefined && given(options) === undefined) return hostText;

  const usable = ownNamespace ? host.nameservers.filter((address) => !isLoopback(address) && !isLinkLocal(address)) : host.nameservers;
  const nameservers = given(dns) ?? (usable.length > 0 ? usable : FALLBACK);
  // `--dns-search .` means: no search list
  const searchList = (given(search) ?? host.search).filter((domain) => domain !== ".");
  const optionList = given(options) ?? host.options;
  return [
    ...nameservers.map((address) => `nameserver ${address}\n`),
    ...(searchList.length > 0 ? [`search ${searchList.join(" ")}\n`] : []),
    ...(optionList.length > 0 ? [`options ${optionList.join(" ")}\n`] : []),
  ].join("");
}
