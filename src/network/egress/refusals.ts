/**
 * Packets that egress rules have refused, as the kernel logs them: messages of nfnetlink_log, and who listens to them.
 * @module
 * @see kernel include/uapi/linux/netfilter/nfnetlink_log.h
 */
import { systemClock } from "#core/clock.ts";
import { type Helper, PlanError } from "#linux/helper.ts";
import { bytes, concat, decodeAttributes, u8, u32be, uint16be, uint32be } from "#linux/netlink/attributes.ts";
import { decodeMessages, encodeMessages, NETLINK_NETFILTER, type NetlinkMessage, NLM_F } from "#linux/netlink/message.ts";
import { type Address, addressOf } from "../ip-address.ts";

const NFNL_SUBSYS_ULOG = 4;
const MESSAGE = { PACKET: 0, CONFIG: 1 } as const;
const CONFIG = { COMMAND: 1, MODE: 2, THRESHOLD: 5 } as const;
const COMMAND_BIND = 1;
const COPY_PACKET = 2;
const PAYLOAD = 9;
/** Enough for both headers. */
const COPIED_BYTES = 80;
const AGAIN_MS = 500;

export interface RefusedPacket {
  readonly source: Address;
  readonly destination: Address;
  /** IP's number. */
  readonly protocol: number;
  /** Of TCP, UDP and SCTP. */
  readonly port: number | undefined;
}

function config(group: number, ...attributes: readonly Uint8Array[]): NetlinkMessage {
  const nfgenmsg = concat([Uint8Array.of(0, 0), uint16be(group)]);
  return { type: (NFNL_SUBSYS_ULOG << 8) | MESSAGE.CONFIG, flags: NLM_F.ACK, body: concat([nfgenmsg, ...attributes]) };
}

/** Messages by which a socket gets all that is logged to a group, one by one. EBUSY: another process does. */
export const listenMessages = (group: number): NetlinkMessage[] => [
  config(group, u8(CONFIG.COMMAND, COMMAND_BIND)),
  config(group, bytes(CONFIG.MODE, concat([uint32be(COPIED_BYTES), Uint8Array.of(COPY_PACKET, 0)])), u32be(CONFIG.THRESHOLD, 1)),
];

/** The packets in a datagram from the kernel. RangeError when a length does not fit. */
export function refusedPackets(datagram: Uint8Array): RefusedPacket[] {
  return decodeMessages(datagram)
    .filter(({ type, body }) => type === ((NFNL_SUBSYS_ULOG << 8) | MESSAGE.PACKET) && body.length >= 4)
    .flatMap(({ body }) => parsePacket(decodeAttributes(body.subarray(4)).get(PAYLOAD) ?? new Uint8Array(0)) ?? []);
}

const PORTS: ReadonlySet<number> = new Set([6, 17, 132]);

function parsePacket(packet: Uint8Array): RefusedPacket | undefined {
  const version = (packet[0] ?? 0) >> 4;
  const head = version === 4 ? ((packet[0] ?? 0) & 15) * 4 : 40;
  if ((version !== 4 && version !== 6) || packet.length < head || head < 20) return undefined;
  const protocol = packet[version === 4 ? 9 : 6] ?? 0;
  const [at, length] = version === 4 ? [12, 4] : [8, 16];
  const address = (from: number): Address => addressOf(packet.subarray(from, from + length));
  const port = PORTS.has(protocol) && packet.length >= head + 4 ? (packet[head + 2] ?? 0) * 256 + (packet[head + 3] ?? 0) : undefined;
  return { source: address(at), destination: address(at + length), protocol, port };
}

/** A group of this daemon's own, far from those that people choose. */
export const logGroup = (table: string): number => 0x7000 + ([...table].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) >>> 0, 7) % 0x1000);

export interface RefusalsOptions {
  readonly helper: Helper;
  readonly table: string;
  readonly onRefused: (packet: RefusedPacket) => void;
  readonly log: (message: string) => void;
}

export class Refusals {
  readonly #options: RefusalsOptions;
  #started: Promise<number | undefined> | undefined;
  #closed = false;

  constructor(options: RefusalsOptions) {
    this.#options = options;
  }

  /** The group that somebody listens to; undefined when this kernel or another process does not let us: then nobody is told. */
  async start(): Promise<number | undefined> {
    this.#started ??= new Promise((started) => {
      void this.#run(logGroup(this.#options.table), started);
    });
    return await this.#started;
  }

  /** The worker itself ends with the helper. */
  close(): void {
    this.#closed = true;
  }

  async #run(group: number, started: (group: number | undefined) => void): Promise<void> {
    const { helper, onRefused, log } = this.#options;
    const setup = encodeMessages(listenMessages(group));
    while (!this.#closed) {
      try {
        await helper.watch(
          { steps: [{ op: "netlink_watch", where: "host", sockets: [NETLINK_NETFILTER, 0, 0], setup, why: "which calls egress rules refuse" }] },
          (_tag, data) => {
            if (this.#closed || data === undefined) return;
            if (data.length === 0) started(group);
            else for (const packet of refusedPackets(data)) onRefused(packet);
          },
        );
      } catch (error) {
        if (error instanceof PlanError) log(`calls that egress rules refuse are not told in events: ${error.message}`);
        started(undefined);
        if (error instanceof PlanError) return;
        await systemClock.sleep(AGAIN_MS);
      }
    }
  }
}
