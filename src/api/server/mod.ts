/**
 * The Engine API's server: an engine behind a router, reachable over HTTP and from within this process by the same routes.
 * It shapes requests and replies; it decides nothing about containers.
 * @module
 */
import type { Duplex } from "node:stream";
import type { Engine } from "#engine/mod.ts";
import type { Dispatch } from "#api/types/transport.ts";
import { createHttpServer, type TlsSecrets } from "./http.ts";
import { listenOn, resolveHosts } from "./listen.ts";
import { Rights } from "./scope/rights.ts";
import { scopedEngine } from "./scope/scoped-engine.ts";
import { ScopedSockets } from "./scoped-sockets.ts";
import { createDispatch, type Log, type Route } from "./router.ts";
import { absentRoutes } from "./routes/absent.ts";
import { archiveRoutes } from "./routes/archive.ts";
import { buildRoutes } from "./routes/build.ts";
import { buildKitRoutes, loadBuildKit } from "./routes/buildkit.ts";
import { containerStreamRoutes } from "./routes/container-streams.ts";
import { containerRoutes } from "./routes/containers.ts";
import { execRoutes } from "./routes/execs.ts";
import { imageTransferRoutes } from "./routes/image-transfer.ts";
import { imageRoutes } from "./routes/images.ts";
import { networkRoutes } from "./routes/networks.ts";
import { registryRoutes } from "./routes/registry-queries.ts";
import { socketRoutes } from "./routes/sockets.ts";
import { systemRoutes } from "./routes/system.ts";
import { volumeRoutes } from "./routes/volumes.ts";
import { wherryRoutes } from "./routes/wherry.ts";

/** Every route, in the order in which they are tried. */
export const routes: readonly Route[] = [
  ...containerRoutes,
  ...containerStreamRoutes,
  ...archiveRoutes,
  ...execRoutes,
  ...imageTransferRoutes,
  ...registryRoutes,
  ...imageRoutes,
  ...buildRoutes,
  ...buildKitRoutes,
  ...networkRoutes,
  ...volumeRoutes,
  ...systemRoutes,
  ...wherryRoutes,
  ...socketRoutes,
  ...absentRoutes,
];

export interface ApiServerOptions {
  /** wherry's version. */
  readonly version: string;
  readonly log: Log;
  /** For TCP addresses. */
  readonly tls?: TlsSecrets;
  /** Where sockets with limited rights are remembered. */
  readonly socketsFile?: string;
}

export type { TlsSecrets };

export interface Listening {
  /** Addresses as clients write them; a TCP port of 0 has become a real one. */
  readonly addresses: readonly string[];
  /** Refuses new connections, ends the open ones. */
  close(): Promise<void>;
}

export interface ApiServer {
  /** `unix:///path`, `tcp://address:port`, `fd://` (sockets that were passed to this process). All or none. */
  listen(hosts: readonly string[]): Promise<Listening>;
  /** Opens the sockets with limited rights that are remembered. */
  restoreSockets(): Promise<void>;
  /** The routes without a socket. */
  readonly dispatch: Dispatch;
  /** Closes every listener. The engine stays open. */
  close(): Promise<void>;
}

export function createApiServer(engine: Engine, options: ApiServerOptions): ApiServer {
  const open = new Set<() => Promise<void>>();
  const context = { engine, version: options.version, log: options.log };

  // HTTP/2 from the first byte on passes the routes by, and what a limited socket checks there.
  const onHttp2 = (connection: Duplex): void => {
    loadBuildKit(context).then(
      (buildKit) => buildKit.serve(connection),
      (error: Error) => connection.destroy(error),
    );
  };

  const listenOne = async (host: string, dispatch: Dispatch, isLimited = false): Promise<{ readonly address: string; readonly close: () => Promise<void> }> => {
    const { server, closeHijacked } = createHttpServer({
      dispatch,
      version: options.version,
      log: options.log,
      ...(isLimited ? {} : { onHttp2 }),
      ...(options.tls !== undefined && host.startsWith("tcp:") ? { tls: options.tls } : {}),
    });
    const address = await listenOn(server, host, options.log, options.tls !== undefined);
    const close = async (): Promise<void> => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      closeHijacked();
      server.closeAllConnections();
      await closed;
    };
    return { address, close };
  };

  const sockets = new ScopedSockets({
    file: options.socketsFile,
    log: options.log,
    serve: async (path, { allow, labels }) => {
      const rights = new Rights(allow);
      const guard = (method: string, pattern: string): void => rights.check(method, pattern);
      const limited = createDispatch(routes, { ...context, engine: scopedEngine(engine, { rights, labels }), guard });
      return (await listenOne(`unix://${path}`, limited, true)).close;
    },
  });
  const dispatch = createDispatch(routes, { ...context, sockets });

  return {
    dispatch,
    async listen(hosts) {
      const listeners: Awaited<ReturnType<typeof listenOne>>[] = [];
      const close = async (): Promise<void> => {
        open.delete(close);
        await Promise.all(listeners.map((listener) => listener.close()));
      };
      try {
        for (const host of resolveHosts(hosts, process.env, process.pid)) listeners.push(await listenOne(host, dispatch));
      } catch (error) {
        await close();
        throw error;
      }
      open.add(close);
      return { addresses: listeners.map((listener) => listener.address), close };
    },
    restoreSockets: () => sockets.restore(),
    async close() {
      await Promise.all([sockets.close(), ...[...open].map((close) => close())]);
    },
  };
}
