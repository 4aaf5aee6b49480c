/**
 * {@link MonitorLink}: one container's monitor, over the helper's relay as long as that lives, else over the monitor's own socket.
 * @module
 */
import { connect, type Socket } from "node:net";
import { EngineError, errnoOf } from "#core/errors.ts";
import { errnoMessage, errnoName } from "./errno.ts";
import { parseExitRecord, readExitRecord } from "./exit-record.ts";
import type { AttachOptions, ExitRecord, MonitorLink } from "./helper.ts";
import { type NameHandler, serveNames } from "./name-sockets.ts";
import { F, FRAME_HEAD, FrameParser, frame, Writer } from "./wire.ts";

const ESRCH = 3;
const ENOENT = 2;

export interface MonitorIdentity {
  readonly monitorPid: number;
  readonly pid: number;
  readonly startTime: bigint;
}

/** Carries controls to a monitor. */
export interface Channel {
  send(type: number, request: number, payload: Uint8Array): void;
  close(): void;
}

/** What became of the command's own descriptors. */
export type DirectEnd = "delivered" | "detached" | "gone" | "broken";
const directEnds: readonly DirectEnd[] = ["delivered", "detached", "gone", "broken"];

/** payload of LAUNCHED. */
export function parseIdentity(payload: Buffer): MonitorIdentity {
  return { monitorPid: payload.readUInt32LE(0), pid: payload.readUInt32LE(4), startTime: payload.readBigUInt64LE(8) };
}

interface Request {
  readonly type: number;
  readonly payload: Uint8Array;
  readonly settle: (errno: number) => void;
}

export class Monitor implements MonitorLink {
  readonly monitorPid: number;
  readonly pid: number;
  readonly startTime: bigint;
  readonly exited: Promise<ExitRecord>;
  readonly left: Promise<boolean>;
  readonly direct: Promise<DirectEnd>;
  onOom?: () => void;
  onPressure?: (text: string) => void;
  readonly #socketPath: string;
  readonly #exitPath: string | undefined;
  readonly #requests = new Map<number, Request>();
  #channel: Channel | undefined;
  #nextRequest = 1;
  #ended = false;
  #released = false;
  #resolveExit!: (record: ExitRecord) => void;
  #rejectExit!: (error: EngineError) => void;
  #resolveLeft!: (all: boolean) => void;
  #resolveDirect!: (end: DirectEnd) => void;

  constructor(identity: MonitorIdentity, socketPath: string, exitPath: string | undefined) {
    this.monitorPid = identity.monitorPid;
    this.pid = identity.pid;
    this.startTime = identity.startTime;
    this.#socketPath = socketPath;
    this.#exitPath = exitPath;
    this.exited = new Promise((resolve, reject) => {
      this.#resolveExit = resolve;
      this.#rejectExit = reject;
    });
    this.exited.catch(() => {}); // who waits for it sees the rejection; nobody has to
    this.left = new Promise((resolve) => {
      this.#resolveLeft = resolve;
    });
    this.direct = new Promise((resolve) => {
      this.#resolveDirect = resolve;
    });
  }

  use(channel: Channel): void {
    this.#channel = channel;
    for (const [id, { type, payload }] of this.#requests) channel.send(type, id, payload);
  }

  /** A frame that came over the channel. */
  frame(type: number, payload: Buffer): void {
    if (type === F.REPLY) {
      const id = payload.readUInt32LE(0);
      const request = this.#requests.get(id);
      this.#requests.delete(id);
      request?.settle(payload.readUInt32LE(4));
    } else if (type === F.EXITED) {
      this.#settle(parseExitRecord(payload.toString("utf8")));
    } else if (type === F.OOM) {
      this.onOom?.();
    } else if (type === F.PRESSURE) {
      this.onPressure?.(payload.toString("utf8"));
    } else if (type === F.LEFT) {
      this.#resolveLeft(payload[0] === 1);
    } else if (type === F.DIRECT) {
      this.#resolveDirect(directEnds[payload[0] ?? 0] ?? "gone");
    }
  }

  #settle(record: ExitRecord): void {
    this.#ended = true;
    this.#resolveExit(record);
    this.#endRequests();
  }

  #endRequests(): void {
    for (const request of this.#requests.values()) request.settle(ESRCH);
    this.#requests.clear();
  }

  /** The channel is gone. Finds out whether the monitor still lives; else takes its record. */
  async lost(): Promise<void> {
    this.#channel?.close();
    this.#channel = undefined;
    if (this.#released) return;
    if (!this.#ended) {
      if (await connectMonitor(this.#socketPath, this).catch(() => undefined)) return;
      const record = this.#exitPath === undefined ? undefined : await readExitRecord(this.#exitPath).catch(() => undefined);
      if (record !== undefined) this.#settle(record);
      else this.#rejectExit(new EngineError("internal", `the monitor of process ${this.pid} was killed and left no exit record`));
      this.#ended = true;
    }
    this.#endRequests();
    this.#resolveDirect("gone");
    this.#resolveLeft(false);
  }

  /** Drops the connection (the engine closes); the container goes on, and {@link exited} stays open. */
  release(): void {
    this.#released = true;
    this.#endRequests();
    this.#channel?.close();
    this.#channel = undefined;
  }

  async #request(type: number, fill: (w: Writer) => void): Promise<number> {
    if (this.#ended) return ESRCH;
    if (this.#released) throw new EngineError("unavailable", "the engine is shutting down");
    const w = new Writer(16);
    fill(w);
    const payload = Buffer.from(w.done());
    const id = this.#nextRequest++;
    return new Promise((settle) => {
      this.#requests.set(id, { type, payload, settle });
      this.#channel?.send(type, id, payload);
    });
  }

  async kill(signal: number): Promise<boolean> {
    const errno = await this.#request(F.KILL, (w) => w.u32(signal));
    if (errno !== 0 && errno !== ESRCH) throw kernelError(`cannot send signal ${signal} to process ${this.pid}`, errno);
    return errno === 0;
  }

  letGo(): void {
    this.#channel?.send(F.LET_GO, 0, new Uint8Array()); // its reply is nobody's
  }

  async resize(rows: number, columns: number): Promise<void> {
    const errno = await this.#request(F.RESIZE, (w) => {
      w.u16(Math.min(rows, 0xffff));
      w.u16(Math.min(columns, 0xffff));
    });
    if (errno !== 0 && errno !== ESRCH) throw kernelError("cannot set the terminal's size", errno);
  }

  async flush(): Promise<void> {
    const errno = await this.#request(F.FLUSH, () => {});
    if (errno !== 0 && errno !== ESRCH) throw kernelError("cannot write the log", errno);
  }

  async logPacked(inode: bigint): Promise<boolean | undefined> {
    const errno = await this.#request(F.LOG_PACKED, (w) => w.u64(inode));
    if (errno !== 0 && errno !== ESRCH && errno !== ENOENT) throw kernelError("cannot compress a rotated log", errno);
    return errno === ESRCH ? undefined : errno === 0;
  }

  names(at: Parameters<MonitorLink["names"]>[0], handler: NameHandler): Promise<(() => void) | undefined> {
    return serveNames(this.#socketPath, at, handler);
  }

  attach(options: AttachOptions): Promise<Socket> {
    return attachTo(this.#socketPath, options);
  }
}

function kernelError(what: string, errno: number): EngineError {
  return new EngineError("kernel", `${what}: ${errnoMessage(errno)}`, { details: { errno: errnoName(errno) } });
}

/** Connects a control channel; resolves to false when nobody listens there. */
async function connectMonitor(socketPath: string, monitor: Monitor): Promise<boolean> {
  const connection = await openControl(socketPath);
  if (connection === undefined) return false;
  connection.bind(monitor);
  return true;
}

interface ControlConnection {
  readonly identity: MonitorIdentity;
  bind(monitor: Monitor): void;
  close(): void;
}

/** Connects to a monitor's socket and says hello; undefined when there is no monitor. */
export function openControl(socketPath: string): Promise<ControlConnection | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path: socketPath });
    let monitor: Monitor | undefined;
    const early: [number, Buffer][] = [];
    const channel: Channel = {
      send: (type, request, payload) => void socket.write(frame(type, request, payload)),
      close: () => void socket.destroy(),
    };
    const parser = new FrameParser((type, _id, payload) => {
      if (monitor !== undefined) monitor.frame(type, payload);
      else if (type !== F.LAUNCHED) early.push([type, Buffer.from(payload)]);
      else
        resolve({
          identity: parseIdentity(payload),
          close: channel.close,
          bind: (bound) => {
            monitor = bound;
            for (const [earlyType, earlyPayload] of early) bound.frame(earlyType, earlyPayload);
            bound.use(channel);
            if (socket.closed) void bound.lost();
          },
        });
    });
    socket.on("data", (chunk) => {
      try {
        parser.push(chunk);
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
    socket.on("error", (error) => {
      const errno = errnoOf(error);
      if (errno === "ENOENT" || errno === "ECONNREFUSED" || errno === "ECONNRESET" || errno === "EPIPE") resolve(undefined);
      else reject(error);
    });
    socket.on("close", () => {
      resolve(undefined);
      void monitor?.lost();
    });
    socket.write(frame(F.HELLO_CONTROL, 0));
  });
}

/** Opens a byte stream to a container's streams, once the monitor has taken it in. */
export function attachTo(socketPath: string, options: AttachOptions): Promise<Socket> {
  const w = new Writer(64);
  w.u8((options.stdin ? 1 : 0) | (options.stdout ? 2 : 0) | (options.stderr ? 4 : 0));
  w.bytes(options.detachKeys);
  return new Promise((resolve, reject) => {
    const socket = connect({ path: socketPath, allowHalfOpen: true });
    const fail = (cause?: Error) => {
      socket.destroy();
      reject(new EngineError("conflict", "the container is not running", cause === undefined ? {} : { cause }));
    };
    const take = () => {
      const head = socket.read(FRAME_HEAD) as Buffer | null;
      if (head === null) return;
      for (const [event, listener] of listeners) socket.off(event, listener as () => void);
      if (head[4] === F.ATTACHED) resolve(socket);
      else fail();
    };
    const listeners: [string, (error?: Error) => void][] = [
      ["readable", take],
      ["error", fail],
      ["end", () => fail()],
      ["close", () => fail()],
    ];
    for (const [event, listener] of listeners) socket.on(event, listener as () => void);
    socket.write(frame(F.HELLO_ATTACH, 0, w.done()));
  });
}
