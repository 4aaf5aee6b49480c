import { type ByteString, corrupt } from "../bytes.ts";

/** Records of a pax extended header, keys and values as bytes. GNU's sparse 0.0 repeats keys, so their order is kept. */
export type PaxRecords = readonly (readonly [ByteString, ByteString])[];

/** Parses `LENGTH KEY=VALUE\n…`; EngineError "corrupt" otherwise. */
export function parsePax(body: Buffer, where: () => string): PaxRecords {
  const bad = () => corrupt(`extended header ${where()} is malformed`);
  const records: [ByteString, ByteString][] = [];
  for (let at = 0; at < body.length; ) {
    // Some writers pad with NULs.
    if (body[at] === 0) break;
    const space = body.indexOf(0x20, at);
    if (space < 0 || space === at || space - at > 10) throw bad();
    const digits = body.toString("latin1", at, space);
    const end = at + Number(digits);
    if (!/^[0-9]+$/.test(digits) || end > body.length || end <= space + 1 || body[end - 1] !== 0x0a) throw bad();
    const equals = body.indexOf(0x3d, space + 1);
    if (equals <= space + 1 || equals >= end) throw bad();
    records.push([body.toString("latin1", space + 1, equals), body.toString("latin1", equals + 1, end - 1)]);
    at = end;
  }
  return records;
}

/** Writes records, in the order given. */
export function formatPax(records: PaxRecords): Buffer {
  return Buffer.from(records.map(([key, value]) => record(key, value)).join(""), "latin1");
}

function record(key: ByteString, value: ByteString): string {
  const rest = key.length + value.length + 3;
  let length = rest + String(rest).length;
  // The length counts its own digits.
  if (String(length).length > String(rest).length) length = rest + String(length).length;
  return `${length} ${key}=${value}\n`;
}

/** `SECONDS[.FRACTION]` → nanoseconds; digits beyond nanoseconds are dropped. */
export function parsePaxTime(value: string): bigint | undefined {
  const match = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(value);
  if (match === null) return undefined;
  const ns = BigInt(match[2]!) * 1_000_000_000n + BigInt((match[3] ?? "").slice(0, 9).padEnd(9, "0"));
  return match[1] === "-" ? -ns : ns;
}

/** The inverse of {@link parsePaxTime}. */
export function formatPaxTime(ns: bigint): string {
  const absolute = ns < 0n ? -ns : ns;
  const fraction = (absolute % 1_000_000_000n).toString().padStart(9, "0").replace(/0+$/, "");
  return `${ns < 0n ? "-" : ""}${absolute / 1_000_000_000n}${fraction === "" ? "" : `.${fraction}`}`;
}
