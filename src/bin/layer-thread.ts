/** A thread that decompresses and hashes layers. @module */
import { parentPort } from "node:worker_threads";
import { serveLayerThread } from "#unionfs/threads/layer-thread.ts";

if (parentPort === null) throw new Error("layer-thread is a thread of wherryd");
serveLayerThread(parentPort);
