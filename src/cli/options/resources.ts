/** Values of resource flags: `--cpus`, `--ulimit`, `--blkio-weight-device`, `--device-…-bps`. @module */
import type { Ulimit } from "#core/container-config.ts";
import { parseInt64, parseUint } from "../flags.ts";
import { parseBytes } from "./bytes.ts";

/** `--cpus 1.5` as billionths of a CPU. */
export function parseCpus(text: string): number {
  const fraction = /^([+-]?\d+)\/(\d+)$/.exec(text);
  if (fraction !== null) {
    const value = (Number(fraction[1]) * 1e9) / Number(fraction[2]);
    if (!Number.isFinite(value)) throw new Error(`failed to parse ${text} as a rational number`);
    if (!Number.isInteger(value)) throw new Error("value is too precise");
    return value;
  }
  const decimal = /^([+-]?)(\d*)(?:\.(\d*))?$/.exec(text);
  if (decimal === null || !/\d/.test(text)) throw new Error(`failed to parse ${text} as a rational number`);
  const digits = (decimal[3] ?? "").replace(/0+$/, "");
  if (digits.length > 9) throw new Error("value is too precise");
  const value = Number(`${decimal[1]}${decimal[2]}${digits.padEnd(9, "0")}`);
  return value === 0 ? 0 : value;
}

/** `--network-classid`: a number, or as tc writes a class, 10:1 (hexadecimal). */
export function parseClassId(text: string): number {
  const [, major, minor] = /^([0-9a-f]{1,4}):([0-9a-f]{1,4})$/i.exec(text) ?? [];
  const id = minor !== undefined ? Number.parseInt(`${major}${minor.padStart(4, "0")}`, 16) : /^(0x[0-9a-f]{1,8}|\d{1,10})$/i.test(text) ? Number(text) : -1;
  if (id < 1 || id > 0xffff_ffff) throw new Error(`invalid network class "${text}": use 0x10001, or 1:1 as tc writes it`);
  return id;
}

/** `--network-priority eth0:5`. */
export function parseNetworkPriority(text: string): readonly [name: string, priority: number] {
  const [, name, priority] = /^([^\s/:]{1,15}):(\d{1,10})$/.exec(text) ?? [];
  if (name === undefined || Number(priority) > 0xffff_ffff)
    throw new Error(`invalid network priority "${text}": use INTERFACE:NUMBER, an interface of the host`);
  return [name, Number(priority)];
}

const limits = [
  "as",
  "core",
  "cpu",
  "data",
  "fsize",
  "locks",
  "memlock",
  "msgqueue",
  "nice",
  "nofile",
  "nproc",
  "rss",
  "rtprio",
  "rttime",
  "sigpending",
  "stack",
];

/** `nofile=1024:2048`, `core=-1`. */
export function parseUlimit(text: string): Ulimit {
  const equals = text.indexOf("=");
  if (equals < 0 || text.indexOf("=", equals + 1) >= 0) throw new Error(`invalid ulimit argument: ${text}`);
  const name = text.slice(0, equals);
  if (!limits.includes(name)) throw new Error(`invalid ulimit type: ${name}`);
  const [first = "", second, ...more] = text.slice(equals + 1).split(":");
  if (more.length > 0) throw new Error(`too many limit value arguments - ${text.slice(equals + 1)}, can only have up to two, \`soft[:hard]\``);
  const soft = parseInt64(first);
  const hard = second === undefined ? soft : parseInt64(second);
  if (hard !== -1 && (soft === -1 || soft > hard)) {
    throw new Error(`ulimit soft limit must be less than or equal to hard limit: ${soft === -1 ? `soft: -1 (unlimited), hard: ${hard}` : `${soft} > ${hard}`}`);
  }
  return { Name: name, Hard: hard, Soft: soft };
}

function devicePair(text: string): readonly [string, string] {
  const colon = text.indexOf(":");
  if (colon <= 0) throw new Error(`bad format: ${text}`);
  const path = text.slice(0, colon);
  if (!path.startsWith("/dev/")) throw new Error(`bad format for device path: ${text}`);
  return [path, text.slice(colon + 1)];
}

/** `/dev/sda:500`. */
export function parseWeightDevice(text: string): { Path: string; Weight: number } {
  const [path, value] = devicePair(text);
  const weight = /^\d+$/.test(value) ? Number(value) : Number.NaN;
  if (!(weight === 0 || (weight >= 10 && weight <= 1000))) throw new Error(`invalid weight for device: ${text}`);
  return { Path: path, Weight: weight };
}

/** `/dev/sda:1mb`. */
export function parseBpsDevice(text: string): { Path: string; Rate: number } {
  const [path, value] = devicePair(text);
  try {
    return { Path: path, Rate: parseBytes(value) };
  } catch {
    throw new Error(
      `invalid rate for device: ${text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb`,
    );
  }
}

/** `/dev/sda:1000`. */
export function parseIopsDevice(text: string): { Path: string; Rate: number } {
  const [path, value] = devicePair(text);
  try {
    return { Path: path, Rate: parseUint(value) };
  } catch {
    throw new Error(`invalid rate for device: ${text}. The correct format is <device-path>:<number>. Number must be a positive integer`);
  }
}
