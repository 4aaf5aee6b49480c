/**
 * `oci/runtime.sock`: the first OCI runtime command that comes is sent on to a process of its own, and wakes the thread (runtime-server.ts) that serves the next
 * ones. A daemon that nobody uses as a runtime spends nothing on it.
 * @module
 */
import { existsSync } from "node:fs";
import { mkdir, unlink } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { type Closer, listenPrivately } from "./cli-server.ts";
import { frameTypes, writeFrame } from "./stub-frames.ts";

type Log = (level: "warn" | "error", message: string) => void;

/** Serves until closed. */
export async function serveRuntime(socketPath: string, log: Log): Promise<Closer> {
  // A directory that nobody else enters: the thread cannot choose the mode of the socket that it makes, since masks are the process's.
  await mkdir(dirname(socketPath), { recursive: true, mode: 0o700 });
  const program = fileURLToPath(new URL("./runtime-server.cjs", import.meta.url));
  let worker: Worker | undefined;
  let closed = false;
  const wake = () => {
    worker = new Worker(program, { workerData: socketPath });
    worker.on("message", (message: string) => log("warn", message));
    worker.on("error", (error) => log("error", `the runtime's thread: ${error.stack ?? error.message}`));
    worker.on("exit", () => {
      worker = undefined;
      if (!closed) doorkeeper().catch((error: Error) => log("error", `runtime.sock: ${error.message}`));
    });
  };
  let door: Server | undefined;
  const doorkeeper = async () => {
    door = createServer((socket) => {
      socket.on("error", () => socket.destroy());
      writeFrame(socket, frameTypes.execNode);
      socket.end();
      door?.close();
      door = undefined;
      if (worker === undefined && existsSync(program)) wake();
    });
    await unlink(socketPath).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
    });
    await listenPrivately(door, socketPath);
  };
  await doorkeeper();
  return {
    close: async () => {
      closed = true;
      door?.close();
      await worker?.terminate();
      await unlink(socketPath).catch(() => undefined); // gone with its server
    },
  };
}
