/**
 * Questions that are passed on to the host's resolvers, from the host's own network: what the host can resolve, its containers can. Each goes out from a port
 * of its own under a number of its own, and only an answer to that is believed.
 * @module
 */
import { randomInt } from "node:crypto";
import { createSocket } from "node:dgram";
import { connect, isIPv6 } from "node:net";
import { answers, type Query, RCODE, rcodeOf } from "./dns-message.ts";

/** A server that has not answered after this is passed over. */
const TIMEOUT_MS = 3_000;

export interface Attempt {
  readonly server: string;
  /** What it answered, or why there is no answer. */
  readonly answer: Buffer | string;
}

/** Asks one server after the other, until one knows. The last attempt has the answer that holds, if there is any. */
export async function forward(message: Buffer, query: Query, servers: readonly string[], transport: "udp" | "tcp"): Promise<Attempt[]> {
  const attempts: Attempt[] = [];
  for (const server of servers) {
    const asked = Buffer.from(message);
    asked.writeUInt16BE(randomInt(0x10000), 0);
    const answer = await (transport === "udp" ? askUdp : askTcp)(asked, query.end, server);
    attempts.push({ server, answer });
    if (typeof answer === "string") continue;
    asked.writeUInt16BE(query.id, 0);
    answer.writeUInt16BE(query.id, 0);
    if (settles(answer)) break;
  }
  return attempts;
}

/** After this answer no other server is asked: it knows, or knows that there is no such name. */
export const settles = (answer: Buffer): boolean => rcodeOf(answer) === RCODE.NOERROR || rcodeOf(answer) === RCODE.NXDOMAIN;

function askUdp(query: Buffer, end: number, server: string): Promise<Buffer | string> {
  return new Promise((resolve) => {
    const socket = createSocket(isIPv6(server.replace(/%.*/, "")) ? "udp6" : "udp4");
    let done = false;
    const settle = (result: Buffer | string) => {
      if (done) return;
      done = true;
      clearTimeout(timer);
      socket.close();
      resolve(result);
    };
    const timer = setTimeout(() => settle("no answer in time"), TIMEOUT_MS);
    socket.on("error", (error: NodeJS.ErrnoException) => settle(error.code ?? error.message));
    socket.on("message", (answer) => answers(answer, query, end) && settle(answer));
    // connected: the kernel lets only this server's datagrams through
    socket.connect(53, server, (error?: Error) => {
      if (error) settle(error.message);
      else socket.send(query);
    });
  });
}

function askTcp(query: Buffer, end: number, server: string): Promise<Buffer | string> {
  return new Promise((resolve) => {
    const socket = connect({ host: server, port: 53, timeout: TIMEOUT_MS });
    let received = Buffer.alloc(0);
    const settle = (result: Buffer | string) => {
      socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => settle("no answer in time"), TIMEOUT_MS);
    socket.on("close", () => {
      clearTimeout(timer);
      resolve("closed without an answer");
    });
    socket.on("error", (error: NodeJS.ErrnoException) => settle(error.code ?? error.message));
    socket.on("connect", () => {
      const length = Buffer.alloc(2);
      length.writeUInt16BE(query.length, 0);
      socket.write(Buffer.concat([length, query]));
    });
    socket.on("data", (chunk) => {
      received = Buffer.concat([received, chunk]);
      if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return;
      const answer = received.subarray(2, 2 + received.readUInt16BE(0));
      settle(answers(answer, query, end) ? answer : "an answer to another question");
    });
  });
}
