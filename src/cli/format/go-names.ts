/** Fields whose name in docker's templates (Go's) is not that of the API's JSON; docker takes both. @module */

const jsonNames: Readonly<Record<string, string>> = {
  ID: "Id",
  APIVersion: "ApiVersion",
  HostIP: "HostIp",
  NanoCPUs: "NanoCpus",
  CPUShares: "CpuShares",
  CPUPeriod: "CpuPeriod",
  CPUQuota: "CpuQuota",
  CPURealtimePeriod: "CpuRealtimePeriod",
  CPURealtimeRuntime: "CpuRealtimeRuntime",
  CPUCount: "CpuCount",
  CPUPercent: "CpuPercent",
  CPUCfsPeriod: "CpuCfsPeriod",
  CPUCfsQuota: "CpuCfsQuota",
  DNS: "Dns",
  DNSOptions: "DnsOptions",
  DNSSearch: "DnsSearch",
  HTTPProxy: "HttpProxy",
  HTTPSProxy: "HttpsProxy",
};

/** The key of `map` that a template means by `name`; undefined when there is none. */
export function keyOf(map: Readonly<Record<string, unknown>>, name: string): string | undefined {
  if (Object.hasOwn(map, name)) return name;
  const other = Object.hasOwn(jsonNames, name) ? jsonNames[name]! : undefined;
  return other !== undefined && Object.hasOwn(map, other) ? other : undefined;
}
