/** `wherry cache serve`: a process of its own, so that its clients can do no harm to a daemon. @module */
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { isIPv6 } from "node:net";
import type { CacheOptions } from "#cli/io.ts";
import { CacheServer, CacheStore, defaultRegistryConfig, Downloads, Registries, SharedSessions, Upstreams } from "#registry/mod.ts";

/** Blobs that are fetched at the same time, and clients. */
const maxDownloads = 8;
const maxConnections = 1024;
/** A client that does nothing for so long has gone. */
const idleMs = 60_000;

/** Serves until SIGINT or SIGTERM; resolves with the exit code. */
export async function serveCache(options: CacheOptions): Promise<number> {
  const store = await CacheStore.open({ directory: options.directory, maxBytes: options.maxBytes });
  const config = { ...defaultRegistryConfig(process.env), insecure: options.insecure };
  await using sessions = new SharedSessions(new Registries(config), options.credentials);
  const cache = new CacheServer({
    store,
    downloads: await Downloads.open(store.partialDirectory, maxDownloads, store),
    sessions,
    upstreams: new Upstreams(options.upstreams),
    push: options.push,
    tagMs: options.tagMs,
    log: (_level, message) => options.warn(message),
  });
  const limits = { requestTimeout: 0, headersTimeout: 30_000, keepAliveTimeout: 30_000, maxHeaderSize: 32 * 1024 };
  const server: Server =
    options.tls === undefined
      ? createServer(limits, cache.listener)
      : createTlsServer({ ...limits, cert: await readFile(options.tls.cert), key: await readFile(options.tls.key) }, cache.listener);
  server.maxConnections = maxConnections;
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    socket.setTimeout(idleMs, () => socket.destroy());
  });
  const stopped = new Promise<void>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve());
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host || undefined, resolve);
  });
  const { address, port } = server.address() as AddressInfo; // it listens on an address
  await options.onListening(`${options.tls === undefined ? "http" : "https"}://${isIPv6(address) ? `[${address}]` : address}:${port}`, options.directory);
  await stopped;
  server.close();
  for (const socket of sockets) socket.destroy();
  await cache.close();
  return 0;
}
