/**
 * What nf_tables does not translate arrives at the socket that holds a published port (IPv6 clients, chiefly) and is passed on from here.
 * @module
 */
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from "node:dgram";
import { connect, type Socket } from "node:net";

export interface RelayTarget {
  readonly host: string;
  readonly port: number;
}

/** Joins a client with a connection of its own to the target; each direction ends by itself, an error ends both. */
export function relayTcp(client: Socket, { host, port }: RelayTarget): void {
  const upstream = connect({ host, port, allowHalfOpen: true });
  const end = () => {
    client.destroy();
    upstream.destroy();
  };
  client.on("error", end);
  upstream.on("error", end);
  client.pipe(upstream);
  upstream.pipe(client);
}

/** A client that is silent for so long is forgotten. */
const UDP_IDLE_MS = 90_000;

/** Passes datagrams on; answers go back to the client that asked. Returns what ends all of it. */
export function relayUdp(listener: UdpSocket, { host, port }: RelayTarget): () => void {
  const clients = new Map<string, { readonly socket: UdpSocket; timer: NodeJS.Timeout }>();
  const forget = (key: string) => {
    const client = clients.get(key);
    if (client === undefined) return;
    clearTimeout(client.timer);
    clients.delete(key);
    client.socket.close();
  };
  const idle = (key: string) => setTimeout(() => forget(key), UDP_IDLE_MS).unref();
  listener.on("message", (data: Buffer, { address, port: from }: RemoteInfo) => {
    const key = `${address} ${from}`;
    let client = clients.get(key);
    if (client === undefined) {
      const socket = createSocket("udp4");
      socket.on("message", (answer) => listener.send(answer, from, address));
      socket.on("error", () => forget(key)); // the container refused; UDP promises nothing
      client = { socket, timer: idle(key) };
      clients.set(key, client);
    }
    clearTimeout(client.timer);
    client.timer = idle(key);
    client.socket.send(data, port, host);
  });
  return () => {
    for (const key of [...clients.keys()]) forget(key);
  };
}
