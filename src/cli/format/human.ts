/** Sizes and times for people, as docker prints them. @module @see https://github.com/docker/go-units */
import { humanDuration } from "#api/types/text.ts";
import { sprintf } from "./print.ts";

const decimal = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const binary = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

function scaled(bytes: number, base: number, units: readonly string[], digits: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= base && unit < units.length - 1) {
    value /= base;
    unit++;
  }
  return sprintf(`%.${digits}g%s`, [value, units[unit]]);
}

/** `4.26MB`: units of 1000; three digits by default. */
export function humanSize(bytes: number, digits = 3): string {
  return scaled(bytes, 1000, decimal, digits);
}

/** `64MiB`: units of 1024, four digits. */
export function binarySize(bytes: number): string {
  return scaled(bytes, 1024, binary, 4);
}

/** `2 hours ago`. */
export function ago(fromMs: number, nowMs: number): string {
  return `${humanDuration(nowMs - fromMs)} ago`;
}

/** Go's time.Time.String(): `2024-01-02 15:04:05 +0000 UTC`. Local time zone of the daemon's host. */
export function goTime(seconds: number): string {
  const date = new Date(seconds * 1000);
  const two = (n: number) => String(n).padStart(2, "0");
  const offset = -date.getTimezoneOffset();
  const zone = `${offset < 0 ? "-" : "+"}${two(Math.floor(Math.abs(offset) / 60))}${two(Math.abs(offset) % 60)}`;
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())} ${zone} ${zoneName(date, zone)}`;
}

function zoneName(date: Date, offset: string): string {
  const name = /\(([^)]+)\)$/.exec(date.toString())?.[1] ?? "";
  if (offset === "+0000" && /^(Coordinated Universal Time|UTC)$/.test(name)) return "UTC";
  const short = new Intl.DateTimeFormat("en-US", { timeZoneName: "short" }).formatToParts(date).find((part) => part.type === "timeZoneName")?.value;
  return short === undefined || short.startsWith("GMT") ? offset : short;
}

/** First 12 digits of an id, without its algorithm. */
export function truncateId(id: string): string {
  return id.replace(/^sha256:/, "").slice(0, 12);
}

/** At most `width` columns, with `…` for what was cut. */
export function ellipsis(text: string, width: number): string {
  const characters = [...text];
  if (characters.length <= width) return text;
  return width <= 1 ? characters.slice(0, width).join("") : `${characters.slice(0, width - 1).join("")}…`;
}
