/**
 * attach and exec start: the connection leaves HTTP and carries a container's streams.
 * @module
 * @see https://docs.docker.com/reference/api/engine/version/v1.51/#tag/Container/operation/ContainerAttach
 */
import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import { encodeJson } from "#api/types/ndjson.ts";
import type { ApiResponse } from "#api/types/transport.ts";

/** How long a client may keep its end open after the container's output has ended. */
const lingerMs = 10_000;

/** Paths (without version) whose POST takes the connection over. */
export function isHijackPath(path: string): boolean {
  return /^\/containers\/[^/]+\/attach$/.test(path) || /^\/exec\/[^/]+\/start$/.test(path);
}

/** A reply that is no stream (an error, a detached exec): plain HTTP on the raw socket, and the end of the connection. */
export function writePlain(socket: Socket, response: Extract<ApiResponse, { kind: "json" | "empty" }>, common: Readonly<Record<string, string>>): void {
  const body = response.kind === "json" ? `${encodeJson(response.value)}\n` : "";
  const headers = {
    ...common,
    ...(response.kind === "json" ? { "Content-Type": "application/json" } : {}),
    "Content-Length": String(Buffer.byteLength(body)),
    Connection: "close",
  };
  socket.end(`${head(response.status, STATUS_CODES[response.status] ?? "", headers)}${body}`);
  drain(socket);
}

function head(status: number, reason: string, headers: Readonly<Record<string, string>>): string {
  return `HTTP/1.1 ${status} ${reason}\r\n${Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join("")}\r\n`;
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

/** Joins the two. `upgraded`: the client asked for `Upgrade: tcp` and gets a 101, else a 200. Half-closing either way is kept. */
export function joinStreams(
  socket: Socket,
  response: Extract<ApiResponse, { kind: "hijack" }>,
  upgraded: boolean,
  common: Readonly<Record<string, string>>,
): void {
  const { stream } = response;
  const headers = { ...common, "Content-Type": response.contentType, ...(upgraded ? { Connection: "Upgrade", Upgrade: "tcp" } : {}) };
  socket.setTimeout(0);
  socket.setNoDelay(true);
  socket.write(upgraded ? head(101, "UPGRADED", headers) : head(200, "OK", headers));

  socket.on("close", () => stream.destroy());
  stream.on("error", () => socket.destroySoon());
  stream.on("close", () => {
    if (!stream.readableEnded) socket.destroySoon();
  });
  stream.pipe(socket);
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
