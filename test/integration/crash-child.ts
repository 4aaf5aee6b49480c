/**
 * A process that does one thing to a store and is killed (SIGKILL) before its N-th step: a change of the filesystem, or a message to the helper. Bundled and
 * started by crash.test.ts; prints how many steps there were when it comes to its end.
 *
 *     node crash-child.mjs '{"root":…,"execRoot":…,"helperPath":…,"driver":…,"operation":…,"threads":…,"failAt":…,"archive":…}'
 *
 * @module
 */
import { createReadStream, createWriteStream } from "node:fs";
import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { Socket } from "node:net";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { commitConfig } from "#image/mod.ts";
import { startHelper } from "#linux/helper-client.ts";
import { LayerThreads } from "#unionfs/threads/layer-threads.ts";
import { openStore, type StoreParts } from "./crash-store.ts";

export interface CrashRequest {
  readonly root: string;
  readonly execRoot: string;
  readonly helperPath: string;
  readonly driver: string;
  readonly operation: Operation;
  /** Layers are taken in, and read, by threads as the daemon has them. Their own steps are not counted, but broken off by those of the process. */
  readonly threads: boolean;
  /** The step that is not performed any more; 0 = all are. */
  readonly failAt: number;
  /** To load, or to save to. */
  readonly archive: string;
}

export type Operation = "load" | "commit" | "save" | "rmi" | "prune";

let steps = 0;
let failAt = 0;

function step(): void {
  if (++steps === failAt) process.kill(process.pid, "SIGKILL");
}

/** Calls of `names` on `target` count from now on. */
function counted(target: object, names: readonly string[]): void {
  for (const name of names) {
    const original = Reflect.get(target, name) as (...args: unknown[]) => unknown;
    Reflect.set(target, name, function (this: unknown, ...args: unknown[]) {
      step();
      return original.apply(this, args);
    });
  }
}

const operations: Readonly<Record<Operation, (parts: StoreParts, archive: string) => Promise<void>>> = {
  load: ({ images }, archive) => images.load(createReadStream(archive), () => undefined),
  save: async ({ images }, archive) => pipeline(await images.save(["app:1", "other:1"]), createWriteStream(archive)),
  rmi: async ({ images }) => void (await images.remove("app:1", { force: false, prune: true, inUse: () => [] })),
  prune: async ({ images }) => void (await images.prune({ all: true, used: new Set(), match: () => true })),
  // As engine/container-content.ts does it.
  commit: async ({ images, layers }) => {
    const base = await images.get("app:1");
    const held = layers.hold();
    try {
      const { diffId } = await layers.commit("container", base.chainId, { keep: true });
      const created = "2024-05-05T00:00:00Z";
      const config = commitConfig({ base, diffId, config: {}, createdBy: "sh", containerId: "c", created, author: "", comment: "" });
      await images.add(config, { tags: ["committed:1"], parent: base.id });
    } finally {
      held.release();
    }
  },
};

const request = JSON.parse(process.argv[2]!) as CrashRequest; // our own test's
const helper = await startHelper({ helperPath: request.helperPath, execRoot: request.execRoot, log: () => undefined });
const threads = request.threads ? new LayerThreads(join(dirname(dirname(request.helperPath)), "layer-thread.cjs"), 2) : undefined;
const parts = await openStore(request.root, request.driver, helper, threads);
counted(fs, ["mkdir", "rename", "writeFile", "unlink", "rm", "rmdir", "symlink", "link", "copyFile", "open", "appendFile"]);
syncBuiltinESMExports();
{
  await using probe = await fs.open("/dev/null");
  counted(Object.getPrototypeOf(probe) as object, ["write", "writeFile", "sync"]);
}
counted(Socket.prototype, ["write"]);
({ failAt } = request);
steps = 0;
await operations[request.operation](parts, request.archive);
await parts.driver.idle();
const total = steps;
await threads?.close();
await helper.close();
console.log(total);
