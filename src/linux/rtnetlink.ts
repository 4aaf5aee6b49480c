/**
 * The one rtnetlink message that every container needs.
 * @module
 * @see rtnetlink(7)
 */
const RTM_NEWLINK = 16;
const NLM_F_REQUEST_ACK = 5;
const IFF_UP = 1;

/** RTM_NEWLINK that sets IFF_UP on an interface: struct nlmsghdr, then struct ifinfomsg. */
export function linkUp(index: number): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint16(4, RTM_NEWLINK, true);
  view.setUint16(6, NLM_F_REQUEST_ACK, true);
  view.setUint32(8, 1, true); // sequence number
  view.setInt32(20, index, true);
  view.setUint32(24, IFF_UP, true); // flags
  view.setUint32(28, IFF_UP, true); // which of them to change
  return bytes;
}
