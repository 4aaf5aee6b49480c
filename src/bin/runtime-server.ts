/**
 * The OCI runtime in a thread of the daemon: serves stubs (native/warm.c) on `oci/runtime.sock` with the code that a process of their own would run. In a
 * thread, because that code may wait for a disk. A stub that is gone is like a runtime that was killed: nothing more is done for it.
 * @module
 */
import { unlinkSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { parentPort, workerData } from "node:worker_threads";
import { NeedsOwnProcess } from "./runtime/io.ts";
import { main } from "./runtime/main.ts";
import { ServedStub } from "./runtime/served.ts";
import { FrameReader, frameTypes, parseHello, writeFrame } from "./stub-frames.ts";

function converse(socket: Socket): void {
  const frames = new FrameReader();
  let stub: ServedStub | undefined;
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk: Buffer) => {
    try {
      for (const frame of frames.push(chunk)) {
        if (stub !== undefined) {
          stub.receive(frame);
          continue;
        }
        const hello = parseHello(frame);
        // Files are made with the mask of whoever makes them.
        if (hello === undefined || hello.umask !== process.umask()) return runItself(socket);
        stub = new ServedStub(socket, hello);
        void serve(socket, stub, hello.argv);
      }
    } catch (error) {
      parentPort?.postMessage(`runtime: ${error instanceof Error ? error.message : String(error)}`);
      socket.destroy();
    }
  });
}

function runItself(socket: Socket): void {
  writeFrame(socket, frameTypes.execNode);
  socket.end();
}

async function serve(socket: Socket, stub: ServedStub, argv: readonly string[]): Promise<void> {
  try {
    stub.exit(await main(argv, stub));
  } catch (error) {
    if (!(error instanceof NeedsOwnProcess)) throw error;
    runItself(socket);
  }
}

const path = String(workerData); // serve-runtime.ts gives it
try {
  unlinkSync(path);
} catch (error) {
  if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
}
createServer(converse).listen(path);
