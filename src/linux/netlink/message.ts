/**
 * Netlink messages as data: `struct nlmsghdr` and a body. Sending them is the helper's `netlink` operation.
 * @module
 * @see netlink(7)
 */
import { concat } from "./attributes.ts";

export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;

/** Flags of a request; what 0x300 means depends on whether it asks or changes. */
export const NLM_F = { REQUEST: 1, ACK: 4, REPLACE: 0x100, EXCL: 0x200, CREATE: 0x400, APPEND: 0x800, DUMP: 0x300 } as const;

const HEADER = 16;

export interface NetlinkMessage {
  readonly type: number;
  /** NLM_F_REQUEST is implied. */
  readonly flags: number;
  /** Family header and attributes. */
  readonly body: Uint8Array;
}

/** Bytes of a message list, with sequence numbers 1, 2, …; each message starts at a multiple of four. */
export function encodeMessages(messages: readonly NetlinkMessage[]): Uint8Array {
  return concat(
    messages.map(({ type, flags, body }, i) => {
      const length = HEADER + body.length;
      const bytes = new Uint8Array((length + 3) & ~3);
      const view = new DataView(bytes.buffer);
      view.setUint32(0, length, true);
      view.setUint16(4, type, true);
      view.setUint16(6, flags | NLM_F.REQUEST, true);
      view.setUint32(8, i + 1, true);
      bytes.set(body, HEADER);
      return bytes;
    }),
  );
}

/** The inverse of {@link encodeMessages}. RangeError when a length does not fit. */
export function decodeMessages(bytes: Uint8Array): (NetlinkMessage & { readonly sequence: number })[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const messages: (NetlinkMessage & { sequence: number })[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = at + HEADER <= bytes.length ? view.getUint32(at, true) : 0;
    if (length < HEADER || at + length > bytes.length)
      throw new RangeError(`netlink message at ${at}: length ${length} does not fit in ${bytes.length - at} bytes`);
    messages.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      body: bytes.subarray(at + HEADER, at + length),
    });
    at += (length + 3) & ~3;
  }
  return messages;
}
