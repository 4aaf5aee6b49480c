/** Datagrams to a unix socket. Node has none, so the helper sends them: a plan of one step. @module */
import type { Helper } from "#linux/helper.ts";

/** A plan has at most 4 MiB, a string of it 1 MiB. */
const BATCH_BYTES = 512 * 1024;

/** In order. @throws PlanError of the first that could not be sent: those before it were */
export async function sendDatagrams(helper: Pick<Helper, "call">, path: string, messages: readonly Uint8Array[]): Promise<void> {
  for (let from = 0; from < messages.length; ) {
    let [to, bytes] = [from, 0];
    for (; to < messages.length && (to === from || bytes + (messages[to] as Uint8Array).length < BATCH_BYTES); to++)
      bytes += (messages[to] as Uint8Array).length + 4;
    const framed = messages.slice(from, to).flatMap((message) => [lengthOf(message), message]);
    await helper.call({
      steps: [{ op: "datagrams", where: "host", path, messages: Buffer.concat(framed), why: "to bring lines of a container's log to their service" }],
    });
    from = to;
  }
}

function lengthOf(message: Uint8Array): Uint8Array {
  const head = Buffer.alloc(4);
  head.writeUInt32LE(message.length);
  return head;
}
