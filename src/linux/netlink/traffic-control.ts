/**
 * Queueing disciplines: how fast an interface may send.
 * @module
 * @see tc(8), tc-tbf(8), tc-netem(8), kernel include/uapi/linux/pkt_sched.h
 */
import { bytes, concat, nested, string } from "./attributes.ts";
import { type NetlinkMessage, NLM_F } from "./message.ts";

export const RTM_QDISC = { NEW: 36, DELETE: 37 } as const;
const TCA = { KIND: 1, OPTIONS: 2 } as const;
const TBF = { PARMS: 1, RATE64: 4, BURST: 6 } as const;
const ROOT = 0xffffffff;
const LINKLAYER_ETHERNET = 1;
/** PSCHED_SHIFT: the scheduler's clock ticks every 64 ns. */
const NS_PER_TICK = 64;

/** Numbers of a qdisc and of a class, as tc's "1:0". */
const handle = (major: number, minor = 0): number => major * 0x10000 + minor;

/** struct tcmsg. */
function tcmsg(index: number, own: number, parent: number): Uint8Array {
  const header = new Uint8Array(20);
  const view = new DataView(header.buffer);
  view.setInt32(4, index, true);
  view.setUint32(8, own, true);
  view.setUint32(12, parent, true);
  return header;
}

const REPLACE = NLM_F.ACK | NLM_F.CREATE | NLM_F.REPLACE;

export interface TokenBucket {
  /** Bytes per second, of Ethernet frames. */
  readonly rate: number;
  /** Bytes that may go at once after a pause. */
  readonly burst: number;
  /** Bytes that may wait; what comes on top is dropped. */
  readonly queue: number;
}

/** The interface sends no faster than this (qdisc tbf, at the root); an earlier one is changed without losing what waits. */
export function tokenBucket(index: number, { rate, burst, queue }: TokenBucket): NetlinkMessage {
  const parameters = new Uint8Array(36);
  const view = new DataView(parameters.buffer);
  view.setUint8(1, LINKLAYER_ETHERNET);
  view.setUint32(8, Math.min(rate, 0xffffffff), true);
  view.setUint32(24, queue, true);
  const rate64 = new Uint8Array(8);
  new DataView(rate64.buffer).setBigUint64(0, BigInt(rate), true);
  const size = new Uint8Array(4);
  new DataView(size.buffer).setUint32(0, burst, true);
  const options = [bytes(TBF.PARMS, parameters), ...(rate > 0xffffffff ? [bytes(TBF.RATE64, rate64)] : []), bytes(TBF.BURST, size)];
  return { type: RTM_QDISC.NEW, flags: REPLACE, body: concat([tcmsg(index, handle(1), ROOT), string(TCA.KIND, "tbf"), nested(TCA.OPTIONS, ...options)]) };
}

export interface Impairment {
  readonly delayUs: number;
  /** 0 to 1. */
  readonly loss: number;
}

/** Packets come late or not at all (qdisc netem): below the token bucket, or at the root without one. */
export function impairment(index: number, { delayUs, loss }: Impairment, below: "bucket" | "root"): NetlinkMessage {
  const options = new Uint8Array(24);
  const view = new DataView(options.buffer);
  view.setUint32(0, Math.min(0xffffffff, Math.round((delayUs * 1000) / NS_PER_TICK)), true);
  view.setUint32(4, 1000, true); // packets that may wait
  view.setUint32(8, Math.round(loss * 0xffffffff), true);
  const parent = below === "bucket" ? handle(1, 1) : ROOT;
  return { type: RTM_QDISC.NEW, flags: REPLACE, body: concat([tcmsg(index, handle(2), parent), string(TCA.KIND, "netem"), bytes(TCA.OPTIONS, options)]) };
}

/** Takes the root qdisc away; ENOENT when there is none. */
export function unshaped(index: number): NetlinkMessage {
  return { type: RTM_QDISC.DELETE, flags: NLM_F.ACK, body: tcmsg(index, 0, ROOT) };
}
