/**
 * attach and exec start: the connection leaves HTTP and carries a container's streams.
 * @module
 * @see https://docs.docker.com/reference/api/engine/version/v1.51/#tag/Container/operation/ContainerAttach
 */
import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { encodeJson } from "#api/types/ndjson.ts";
import type { ApiResponse } from "#api/types/transport.ts";
import type { HeaderLines } from "./respond.ts";

/** How long a client may keep its end open after the container's output has ended. */
const lingerMs = 10_000;
/** How long docker-py gets to read a header. */
const headerReadMs = 50;

/** Requests (path without version) that take the connection over. */
export function isHijack(method: string, path: string): boolean {
  if (method === "GET") return /^\/containers\/[^/]+\/attach\/ws$/.test(path);
  return method === "POST" && /^\/(containers\/[^/]+\/attach|exec\/[^/]+\/start|grpc|session)$/.test(path);
}

/** A reply that is no stream (an error, a detached exec): plain HTTP on the raw socket, and the end of the connection. */
export function writePlain(socket: Socket, response: Extract<ApiResponse, { kind: "json" | "empty" }>, common: HeaderLines): void {
  const body = response.kind === "json" ? `${encodeJson(response.value)}\n` : "";
  const type = response.kind === "json" ? ["Content-Type", "application/json"] : [];
  const headers = [...common, ...type, "Content-Length", String(Buffer.byteLength(body)), "Connection", "close"];
  socket.end(`${head(response.status, STATUS_CODES[response.status] ?? "", headers)}${body}`);
  drain(socket);
}

function head(status: number, reason: string, headers: HeaderLines): string {
  return `HTTP/1.1 ${status} ${reason}\r\n${headerText(headers)}\r\n`;
}

/** A line each, with its line end. */
export function headerText(headers: HeaderLines): string {
  let text = "";
  for (let i = 0; i < headers.length; i += 2) text += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return text;
}

/**
 * Reads on until the client closes: a socket closed with unread input answers with a reset, which can overtake the last output. A client that keeps its
 * end open is let go after a while.
 */
function drain(socket: Socket): void {
  socket.resume();
  const linger = setTimeout(() => socket.destroy(), lingerMs);
  socket.once("close", () => clearTimeout(linger));
  socket.once("end", () => socket.destroySoon());
}

/**
 * docker-py reads the header through a buffer and then forgets the buffer: bytes that come together with the header are lost to it. Only a replayed log is
 * ready that early.
 */
export async function letHeaderBeRead(userAgent: string | undefined, query: string): Promise<void> {
  if (userAgent?.startsWith("docker-sdk-python/") && /(^|&)logs=(1|true)\b/i.test(query)) await sleep(headerReadMs);
}

/** Says that the connection is another protocol's from now on, and gives it away. */
export function giveAway(socket: Socket, { protocol, take }: Extract<ApiResponse, { kind: "upgrade" }>): void {
  socket.setTimeout(0);
  socket.setNoDelay(true);
  // Who closes one direction is gone: there is no half of HTTP/2.
  socket.once("end", () => socket.destroy());
  // Nothing but what every reader of a 101 needs: the client is done with HTTP/1.1.
  socket.write(head(101, "Switching Protocols", ["Connection", "Upgrade", "Upgrade", protocol]));
  take(socket);
}

/** Joins the two. `upgraded`: the client asked for `Upgrade: tcp` and gets a 101, else a 200. Half-closing either way is kept. */
export function joinStreams(
  socket: Socket,
  response: Extract<ApiResponse, { kind: "hijack" }>,
  upgraded: boolean,
  common: HeaderLines,
  before: Promise<void> = Promise.resolve(),
): void {
  const { stream } = response;
  const headers = [...common, "Content-Type", response.contentType, ...(upgraded ? ["Connection", "Upgrade", "Upgrade", "tcp"] : [])];
  socket.setTimeout(0);
  socket.setNoDelay(true);
  socket.write(upgraded ? head(101, "UPGRADED", headers) : head(200, "OK", headers));

  socket.on("close", () => stream.destroy());
  stream.on("error", () => socket.destroySoon());
  stream.on("close", () => {
    if (!stream.readableEnded) socket.destroySoon();
  });
  void before.then(() => stream.pipe(socket));
  stream.once("end", () => {
    socket.unpipe(stream);
    drain(socket);
  });
  if (response.stdin) socket.pipe(stream);
  else {
    socket.resume();
    socket.once("end", () => stream.end());
  }
}
