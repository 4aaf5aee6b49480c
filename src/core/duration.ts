const units: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, μs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };

/** Go's durations (`1m30s`) in nanoseconds; undefined for what is none. */
export function parseDuration(text: string): number | undefined {
  const [, sign, rest = ""] = /^([+-]?)(.*)$/.exec(text) ?? [];
  if (rest === "0") return 0;
  if (!/^(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))*$/.test(rest)) return undefined;
  let ns = 0;
  for (const [, number, unit] of rest.matchAll(/([\d.]+)([a-zµμ]+)/g)) ns += Number(number) * units[unit!]!;
  return (sign === "-" ? -1 : 1) * Math.round(ns);
}
