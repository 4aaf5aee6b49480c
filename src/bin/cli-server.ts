/**
 * The CLI inside the warm daemon: serves the stub's conversation (docs/stub-protocol.md) on `cli.sock`. Node cannot ask a socket who its peer is
 * (SO_PEERCRED), so access is what the file system grants: the socket is made with mode 0600, which lets in root and the daemon's own user.
 * @module
 */
import { unlink } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import type { ApiClient } from "#api/client/mod.ts";
import { preload } from "#cli/commands.ts";
import { resolveConnection } from "#cli/contexts/connection.ts";
import { main } from "#cli/main.ts";
import { FrameReader, frameTypes, parseHello, ProtocolError, writeFrame } from "./stub-frames.ts";
import { StubSession } from "./stub-session.ts";

export interface Closer {
  close(): Promise<void>;
}

export interface CliServerOptions {
  readonly socketPath: string;
  readonly client: ApiClient;
  readonly log: (level: "debug" | "info" | "warn" | "error", message: string) => void;
}

/** Serves until closed. Closing drops the conversations that are under way; their containers go on. */
export async function serveCli(options: CliServerOptions): Promise<Closer> {
  const { socketPath, log } = options;
  await unlink(socketPath).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    converse(socket, options).catch((error: unknown) => {
      log(error instanceof ProtocolError ? "warn" : "error", `cli: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
      socket.destroy();
    });
  });
  await listenPrivately(server, socketPath);
  // The first call should be as fast as the next; when this fails, the call itself will say so.
  preload().catch((error: unknown) => log("error", `cli: ${String(error)}`));
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/** Binding happens within `listen`, so the mask holds from the socket's first moment. */
export function listenPrivately(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    const mask = process.umask(0o177);
    try {
      server.listen(path, () => {
        server.off("error", reject);
        resolve();
      });
    } finally {
      process.umask(mask);
    }
  });
}

/** A context may name another daemon than the one that the stub has found; what is wrong with a context is told by a Node of the caller's own, too. */
async function speaksToAnother(session: StubSession): Promise<boolean> {
  try {
    const { context, host, tls } = await resolveConnection(session);
    return tls !== undefined || (context !== "default" && host !== undefined);
  } catch {
    return true;
  }
}

/** `wherry cache serve` is a server with clients of its own: not in here. */
function isProgram(argv: readonly string[]): boolean {
  return argv.some((word, i) => word === "cache" && argv[i + 1] === "serve");
}

/** One stub, from hello to exit code. */
async function converse(socket: Socket, { client }: CliServerOptions): Promise<void> {
  const frames = new FrameReader();
  let session: StubSession | undefined;
  socket.on("error", () => socket.destroy()); // the stub was killed: "close" follows
  const firstFrame = new Promise<StubSession | "other-version" | "gone">((resolve, reject) => {
    socket.once("close", () => {
      session?.leave();
      resolve("gone");
    });
    socket.on("data", (chunk: Buffer) => {
      try {
        for (const frame of frames.push(chunk)) {
          if (session !== undefined) {
            session.receive(frame);
            continue;
          }
          const hello = parseHello(frame);
          if (hello === undefined) return resolve("other-version");
          session = new StubSession(socket, hello);
          resolve(session);
        }
      } catch (error) {
        reject(error);
        socket.destroy(error as Error);
      }
    });
  });
  const first = await firstFrame;
  if (first === "gone") return;
  if (first === "other-version") {
    writeFrame(socket, frameTypes.execNode);
    socket.end();
    return;
  }
  if (isProgram(first.argv) || (await speaksToAnother(first))) {
    writeFrame(socket, frameTypes.execNode);
    socket.end();
    return;
  }
  const code = await main(first, () => client);
  first.exit(code);
}
