/**
 * Bandwidth and quality of a container's networks: what the user asked for, and the messages that make it so. Pure.
 *
 * A queue limits what it sends. What the container receives is what the host's end of its cable sends, and what it sends leaves through its own end, inside its
 * namespace; only who has CAP_NET_ADMIN in there could take that limit off.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import type { NetlinkMessage } from "#linux/netlink/message.ts";
import { impairment, tokenBucket, unshaped } from "#linux/netlink/traffic-control.ts";

/** As given: `rate` (both directions), `ingress`, `egress`: "20mbit"; `burst`: "64k"; `latency`: "10ms"; `loss`: "0.5%". */
export type ShapingText = Readonly<Record<string, string>>;

export interface Direction {
  /** Bytes per second; undefined = not limited. */
  readonly rate: number | undefined;
  readonly burst: number;
}

export interface Shaping {
  /** Into the container, out of the container. */
  readonly ingress: Direction;
  readonly egress: Direction;
  /** Of every packet, in each direction. */
  readonly delayUs: number;
  readonly loss: number;
}

const KEYS: readonly string[] = ["rate", "ingress", "egress", "burst", "latency", "loss"];
export const LABEL = "wherry.network.";

/** What labels ask for (`wherry.network.rate=20mbit`), for clients that know no such option. */
export function shapingOfLabels(labels: Readonly<Record<string, string>>): ShapingText | undefined {
  const found = KEYS.flatMap((key) => (labels[LABEL + key] === undefined ? [] : [[key, labels[LABEL + key]] as const]));
  return found.length === 0 ? undefined : Object.fromEntries(found as [string, string][]);
}

const invalid = (what: string, text: string, want: string): EngineError =>
  new EngineError("invalid", `invalid network ${what} "${text.slice(0, 60)}": use ${want}`);

const SCALE: Readonly<Record<string, number>> = { "": 1, k: 1e3, m: 1e6, g: 1e9, ki: 1024, mi: 1024 ** 2, gi: 1024 ** 3 };

/** Bytes per second of tc's "20mbit", "2.5mbps" (bytes), "1000" (bits); 0 and "unlimited" are no limit. */
export function parseRate(text: string): number | undefined {
  if (text === "unlimited") return undefined;
  const [, number, scale = "", unit = "bit"] = /^(\d{1,12}(?:\.\d{1,6})?)([kmg]i?)?(bit|bps)?$/i.exec(text) ?? [];
  if (number === undefined) throw invalid("rate", text, "a number and bit, kbit, mbit or gbit (bps, kbps, … for bytes)");
  const rate = Math.round((Number(number) * (SCALE[scale.toLowerCase()] ?? 1)) / (unit.toLowerCase() === "bit" ? 8 : 1));
  if (Number(number) === 0) return undefined;
  if (rate < 1000 || rate > 1e12) throw invalid("rate", text, "8kbit to 8000gbit");
  return rate;
}

function parseBurst(text: string): number {
  const [, number, scale = ""] = /^(\d{1,9})([kmg]i?)?b?$/i.exec(text) ?? [];
  const burst = Number(number ?? Number.NaN) * 1024 ** Math.max(0, " kmg".indexOf(scale.toLowerCase()[0] ?? " "));
  if (!(burst >= 2000 && burst < 2 ** 31)) throw invalid("burst", text, "2000 bytes (more than one packet) to 2g");
  return burst;
}

function parseDelay(text: string): number {
  const [, number, unit] = /^(\d{1,7}(?:\.\d{1,3})?)(us|ms|s)$/.exec(text) ?? [];
  const delayUs = Number(number ?? Number.NaN) * (unit === "us" ? 1 : unit === "ms" ? 1e3 : 1e6);
  if (!(delayUs >= 0 && delayUs <= 60e6)) throw invalid("latency", text, "10ms or the like, 60s at most");
  return Math.round(delayUs);
}

function parseLoss(text: string): number {
  const [, number] = /^(\d{1,3}(?:\.\d{1,6})?)%?$/.exec(text) ?? [];
  const loss = Number(number ?? Number.NaN) / 100;
  if (!(loss >= 0 && loss <= 1)) throw invalid("loss", text, "a percentage such as 0.5%");
  return loss;
}

/** A bucket that holds what the rate gives in 20 ms, but at least three full packets: the mean is exact, and slow timers cost nothing. */
const defaultBurst = (rate: number): number => Math.max(4_600, Math.round(rate / 50));
/**
 * What may wait: a tenth of a second's bytes, but always one packet as large as TCP hands it down. A shorter queue drops the end of each of those, and the sender
 * stands still for its retransmission timer (measured: 2 s instead of none until a raised rate is used).
 */
const queueOf = (rate: number, burst: number): number => Math.min(2 ** 31, Math.max(Math.round(rate / 10), 1 << 16) + burst);

/** undefined: nothing is asked for. EngineError "invalid". */
export function parseShaping(text: ShapingText | undefined): Shaping | undefined {
  if (text === undefined) return undefined;
  const unknown = Object.keys(text).find((key) => !KEYS.includes(key));
  if (unknown !== undefined) throw new EngineError("invalid", `unknown network limit "${unknown.slice(0, 60)}": use ${KEYS.join(", ")}`);
  const burst = text["burst"] === undefined ? undefined : parseBurst(text["burst"]);
  const direction = (own: string | undefined): Direction => {
    const given = own ?? text["rate"];
    const rate = given === undefined ? undefined : parseRate(given);
    return { rate, burst: burst ?? (rate === undefined ? 0 : defaultBurst(rate)) };
  };
  return {
    ingress: direction(text["ingress"]),
    egress: direction(text["egress"]),
    delayUs: text["latency"] === undefined ? 0 : parseDelay(text["latency"]),
    loss: text["loss"] === undefined ? 0 : parseLoss(text["loss"]),
  };
}

export const isImpaired = ({ delayUs, loss }: Shaping): boolean => delayUs > 0 || loss > 0;

/** Messages for one end of the cable; empty when nothing is limited. */
export function shapingMessages(index: number, { rate, burst }: Direction, shaping: Shaping): NetlinkMessage[] {
  return [
    ...(rate === undefined ? [] : [tokenBucket(index, { rate, burst, queue: queueOf(rate, burst) })]),
    ...(isImpaired(shaping) ? [impairment(index, shaping, rate === undefined ? "root" : "bucket")] : []),
  ];
}

export { unshaped };
