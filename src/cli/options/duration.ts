/** Go's durations. @module */

const unitNs: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, μs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };

/** Nanoseconds of "1h30m", "1.5s", "300ms", "-2m". Throws Error with Go's reason. */
export function parseDuration(text: string): number {
  const sign = text.startsWith("-") ? -1 : 1;
  const body = text.replace(/^[+-]/, "");
  if (body === "0") return 0;
  if (body === "") throw new Error(`time: invalid duration ${JSON.stringify(text)}`);
  let total = 0;
  const part = /([0-9]*)(\.[0-9]*)?([^0-9.]*)/y;
  while (part.lastIndex < body.length) {
    const [, whole = "", fraction = "", unit = ""] = part.exec(body)!;
    if (whole === "" && fraction.length < 2) throw new Error(`time: invalid duration ${JSON.stringify(text)}`);
    if (unit === "") throw new Error(`time: missing unit in duration ${JSON.stringify(text)}`);
    const ns = unitNs[unit];
    if (ns === undefined) throw new Error(`time: unknown unit ${JSON.stringify(unit)} in duration ${JSON.stringify(text)}`);
    total += Number(`${whole === "" ? "0" : whole}${fraction === "." ? "" : fraction}`) * ns;
  }
  if (!Number.isFinite(total) || total > 2 ** 63) throw new Error(`time: invalid duration ${JSON.stringify(text)}`);
  return sign * Math.trunc(total);
}

/** A moment for `--since`/`--until` as the API takes it: seconds since 1970 with nanoseconds. "" stays "". Relative durations count back from `nowMs`. */
export function parseMoment(text: string, nowMs: number): string {
  if (text === "" || text === "0") return text;
  if (/^-?\d+(\.\d+)?$/.test(text)) return text;
  if (/^[+-]?([0-9.]+(ns|us|µs|ms|s|m|h))+$/.test(text)) return stamp(BigInt(Math.trunc(nowMs)) * 1_000_000n - BigInt(parseDuration(text)));
  const match = /^(\d{4}-\d\d-\d\d)(?:T(\d\d(?::\d\d(?::\d\d)?)?)(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?$/.exec(text);
  if (match === null) throw new Error(`failed to parse value as time or duration: ${JSON.stringify(text)}`);
  const [, day, clock = "00", fraction = "", zone = ""] = match;
  const full = `${clock}:00:00`.slice(0, 8);
  // Without a zone, the caller's own is meant.
  const ms = Date.parse(`${day}T${full}${zone}`);
  if (Number.isNaN(ms)) throw new Error(`failed to parse value as time or duration: ${JSON.stringify(text)}`);
  return stamp(BigInt(ms) * 1_000_000n + BigInt(fraction.slice(1).padEnd(9, "0")));
}

function stamp(ns: bigint): string {
  const seconds = ns / 1_000_000_000n;
  return `${seconds}.${(ns - seconds * 1_000_000_000n).toString().padStart(9, "0")}`;
}
