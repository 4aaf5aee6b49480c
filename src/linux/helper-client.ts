/**
 * {@link Helper} over the native helper process: encodes plans, and keeps going when the helper crashes (a new one is started; running
 * containers are not touched, their links change over to their monitors' own sockets).
 * @module
 */
import { randomBytes } from "node:crypto";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { EngineError } from "#core/errors.ts";
import { encodePlan } from "./encode.ts";
import { encodeLaunch } from "./encode-launch.ts";
import { errnoMessage, errnoName } from "./errno.ts";
import type { ListedTree, TreeAddress } from "./file-tree.ts";
import { connectTree } from "./file-tree-client.ts";
import { type Helper, type LaunchRequest, type MonitorLink, PlanError, type Reports } from "./helper.ts";
import { HelperProcess, type Listener } from "./helper-process.ts";
import { attachTo, type Channel, Monitor, openControl, parseIdentity } from "./monitor-link.ts";
import type { Plan } from "./plan.ts";
import { F, FRAME_HEAD, Writer } from "./wire.ts";

export interface HelperOptions {
  /** The program `wherry-helper`. */
  readonly helperPath: string;
  /** Where sockets are made (a directory that only root may enter). */
  readonly execRoot: string;
  readonly log: (line: string) => void;
}

/** Starts the helper. Call it early: a small engine spawns in 2 ms, a large one in 20. */
export async function startHelper(options: HelperOptions): Promise<Helper> {
  const client = new HelperClient(options);
  await client.process();
  return client;
}

const NO_STEP = 0xffffffff;
const ENOKEY = 126;
/** Flag of a report: more of it follows. */
const REPORT_MORE = 2;

/** FAILED's payload as an error. */
function failure(plan: Plan, payload: Buffer): Error {
  const step = payload.readUInt32LE(0);
  const errno = payload.readUInt32LE(4);
  if (step !== NO_STEP) return new PlanError(plan, step, errno, errnoName(errno));
  if (errno === ENOKEY) return new EngineError("unavailable", "the command's own descriptors are not known (any more)", { details: { errno: "ENOKEY" } });
  return new EngineError("kernel", `the helper cannot start the work: ${errnoMessage(errno)}`, { details: { errno: errnoName(errno) } });
}

const helperGone = () => new EngineError("unavailable", "the helper process has ended before it answered", { hint: "it is started anew: try again" });

class HelperClient implements Helper {
  readonly program: string;
  readonly fdSocketPath: string;
  readonly #options: HelperOptions;
  readonly #links = new Set<Monitor>();
  #process: Promise<HelperProcess> | undefined;
  #closed = false;

  constructor(options: HelperOptions) {
    this.#options = options;
    this.program = resolve(options.helperPath);
    this.fdSocketPath = join(options.execRoot, "fd.sock");
  }

  /** The running helper; starts one when there is none. */
  process(): Promise<HelperProcess> {
    if (this.#closed) return Promise.reject(new EngineError("unavailable", "the engine is shutting down"));
    this.#process ??= this.#start();
    return this.#process;
  }

  async #start(): Promise<HelperProcess> {
    const { helperPath, log } = this.#options;
    try {
      const helper = await HelperProcess.start(helperPath, this.fdSocketPath, log);
      const startedAt = Date.now();
      void helper.ended.then(() => {
        this.#process = undefined;
        // At once, because commands send their descriptors without asking us; but not in a loop when it dies at its start.
        if (!this.#closed && Date.now() - startedAt > 1000) this.process().catch((error) => log(`helper: ${error.message}`));
      });
      return helper;
    } catch (error) {
      this.#process = undefined;
      throw error;
    }
  }

  async call(plan: Plan): Promise<Reports> {
    const payload = encodePlan(plan).done();
    const helper = await this.process();
    const reports = new Map<number, Uint8Array | undefined>();
    return this.#exchange(helper, (done, fail) => ({
      start: (id) => helper.send(F.CALL, id, payload),
      frame: (type, data) => {
        if (type === F.REPORT) addReport(reports, data);
        else if (type === F.DONE) done(reports);
        else if (type === F.FAILED) fail(failure(plan, data));
        else if (type === F.GONE) fail(new EngineError("internal", "the worker that performed the plan died"));
      },
      lost: () => fail(helperGone()),
    }));
  }

  async watch(plan: Plan, onReport: (tag: number, data: Uint8Array | undefined) => void): Promise<never> {
    const payload = encodePlan(plan).done();
    const helper = await this.process();
    const parts = new Map<number, Uint8Array | undefined>();
    return this.#exchange<never>(helper, (_done, fail) => ({
      start: (id) => helper.send(F.CALL, id, payload),
      frame: (type, data) => {
        if (type === F.REPORT) {
          addReport(parts, data);
          if (((data[4] ?? 0) & REPORT_MORE) !== 0) return;
          const tag = data.readUInt32LE(0);
          onReport(tag, parts.get(tag));
          parts.delete(tag);
        } else if (type === F.FAILED) fail(failure(plan, data));
        else if (type === F.GONE || type === F.DONE) fail(new EngineError("internal", "the worker that watched has ended"));
      },
      lost: () => fail(helperGone()),
    }));
  }

  /** One request whose answer ends it. */
  #exchange<T>(helper: HelperProcess, make: (done: (value: T) => void, fail: (error: Error) => void) => Listener & { start(id: number): void }): Promise<T> {
    return new Promise((resolve, reject) => {
      let id = 0;
      const end =
        <V>(settle: (value: V) => void) =>
        (value: V): void => {
          helper.forget(id);
          settle(value);
        };
      const listener = make(end(resolve), end(reject));
      id = helper.listen(listener);
      listener.start(id);
    });
  }

  async launch(request: LaunchRequest, onListening?: (attach: MonitorLink["attach"]) => void): Promise<MonitorLink> {
    const w = new Writer(16384);
    w.raw(Buffer.alloc(FRAME_HEAD));
    encodeLaunch(w, request);
    encodePlan(request.plan, w);
    const helper = await this.process();
    return new Promise((resolve, reject) => {
      let link: Monitor | undefined;
      let failed: Error | undefined;
      const id = helper.listen({
        frame: (type, payload) => {
          if (link !== undefined) {
            if (type === F.GONE) {
              helper.forget(id);
              void link.lost();
            } else link.frame(type, payload);
            return;
          }
          if (type === F.LISTENING) onListening?.((options) => attachTo(request.socketPath, options));
          else if (type === F.LAUNCHED) {
            link = this.#launched(helper, id, request, payload);
            resolve(link);
          } else if (type === F.FAILED) {
            failed = failure(request.plan, payload);
            // With the monitor goes what it has mounted. Where there never was one nothing more comes.
            if (!(failed instanceof PlanError)) reject(failed);
          } else if (type === F.GONE) {
            helper.forget(id);
            reject(failed ?? new EngineError("internal", "the monitor died while it started the container"));
          }
        },
        lost: () => {
          if (link !== undefined) void link.lost();
          else if (failed !== undefined) reject(failed);
          else void this.#findLaunched(request).then(resolve, reject);
        },
      });
      const bytes = w.done();
      w.patch(0, bytes.length - 4);
      bytes[4] = F.LAUNCH;
      w.patch(5, id);
      helper.sendRaw(bytes);
    });
  }

  #launched(helper: HelperProcess, id: number, request: LaunchRequest, payload: Buffer): Monitor {
    const link = new Monitor(parseIdentity(payload), request.socketPath, request.exitPath);
    const channel: Channel = {
      send: (type, requestId, body) => {
        const w = new Writer(32);
        w.u8(type);
        w.u32(requestId);
        w.raw(body);
        helper.send(F.CONTROL, id, w.done());
      },
      close: () => helper.forget(id),
    };
    link.use(channel);
    return this.#keep(link);
  }

  #keep(link: Monitor): Monitor {
    this.#links.add(link);
    void link.exited.catch(() => {}).finally(() => this.#links.delete(link));
    return link;
  }

  /** The helper died during a launch: a monitor that was not done gives up by itself; one that was goes on and can be found. */
  async #findLaunched(request: LaunchRequest): Promise<MonitorLink> {
    for (let attempt = 0; attempt < 40; attempt++) {
      const link = await this.reconnect(request.socketPath, request.pidPath, request.exitPath);
      if (link !== undefined) return link;
      await sleep(25);
    }
    throw helperGone();
  }

  async reconnect(socketPath: string, _pidPath: string, exitPath?: string): Promise<MonitorLink | undefined> {
    const control = await openControl(socketPath);
    if (control === undefined) return undefined;
    const link = new Monitor(control.identity, socketPath, exitPath);
    control.bind(link);
    return this.#keep(link);
  }

  async openTree(root: string, plan?: Plan): Promise<ListedTree> {
    return connectTree(await this.startTree(root, plan));
  }

  async startTree(root: string, plan?: Plan): Promise<TreeAddress> {
    const helper = await this.process();
    const socketPath = join(this.#options.execRoot, `tree-${randomBytes(8).toString("hex")}.sock`);
    const w = new Writer(256);
    w.str(root);
    w.str(socketPath);
    if (plan !== undefined) encodePlan(plan, w);
    const pid = await this.#exchange<number>(helper, (done, fail) => ({
      start: (id) => helper.send(F.TREE, id, w.done()),
      frame: (type, payload) => {
        if (type === F.DONE) done(payload.readUInt32LE(0));
        else if (type === F.FAILED && plan !== undefined) fail(failure(plan, payload));
        else if (type === F.FAILED)
          fail(
            new EngineError("kernel", `cannot open the directory ${root}: ${errnoMessage(payload.readUInt32LE(4))}`, {
              details: { errno: errnoName(payload.readUInt32LE(4)) },
            }),
          );
        else fail(new EngineError("internal", "the file worker died at its start"));
      },
      lost: () => fail(helperGone()),
    }));
    return { socketPath, root, pid };
  }

  async close(): Promise<void> {
    const running = this.#process;
    this.#closed = true;
    for (const link of this.#links) link.release();
    await running?.then((helper) => helper.close()).catch(() => {});
  }
}

function addReport(reports: Map<number, Uint8Array | undefined>, data: Buffer): void {
  const tag = data.readUInt32LE(0);
  const missing = ((data[4] ?? 0) & 1) !== 0;
  const chunk = Buffer.from(data.subarray(5));
  const before = reports.get(tag);
  reports.set(tag, missing ? undefined : before === undefined ? chunk : Buffer.concat([before, chunk]));
}
