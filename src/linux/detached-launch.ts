/**
 * One plan performed by a launcher process of its own: nobody of ours stays with the process that it makes, which inherits our descriptors 0–2 and,
 * when the launcher and we have ended, is reaped by the nearest subreaper above. For an OCI runtime.
 * @module
 * @see native/launch.c
 */
import { spawn } from "node:child_process";
import type { Duplex } from "node:stream";
import { EngineError } from "#core/errors.ts";
import { encodePlan } from "./encode.ts";
import { encodeLaunch } from "./encode-launch.ts";
import { errnoMessage, errnoName } from "./errno.ts";
import { PlanError } from "./helper.ts";
import type { Plan } from "./plan.ts";
import { F, FRAME_HEAD, FrameParser, frame, Writer } from "./wire.ts";

export interface DetachedLaunch {
  /** The program `wherry-helper`. */
  readonly helperPath: string;
  /** Ends its child's side with `exec_gate` and `exec`. */
  readonly plan: Plan;
  /** The plan makes a terminal (`stdio`), of this size (0 0 = the kernel's default). */
  readonly tty: boolean;
  readonly rows: number;
  readonly columns: number;
  /** Unix socket that the terminal's master is sent to; undefined with `wait`: our own terminal is connected with it. */
  readonly consoleSocket: string | undefined;
  /** The launcher stays and tells how the process ended. */
  readonly wait: boolean;
  /** Descriptors 3 and up of ours that the program gets. */
  readonly preserveFds: number;
  /** At an `engine_gate` step: the child exists and waits for this. A rejection ends the launch, and the child. */
  readonly onGate?: (pid: number) => Promise<void>;
}

/** The process that runs (or waits to be started). */
export interface Detached {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat. */
  readonly startTime: bigint;
  /** With `wait`: how it ended. */
  readonly exited: Promise<{ readonly code: number; readonly signal: number }>;
  /** With `wait` and a terminal of ours. */
  resize(rows: number, columns: number): void;
}

const ID = 1;
const NO_STEP = 0xffffffff;

/** A launcher process: its socket, and its end. */
export interface LauncherProcess {
  readonly socket: Duplex;
  /** Resolves when the process is gone; rejects when it cannot be started. */
  readonly ended: Promise<void>;
}

function spawnLauncher(request: DetachedLaunch): LauncherProcess {
  const preserved = Array.from({ length: request.preserveFds }, (_, index) => 3 + index);
  const child = spawn(request.helperPath, ["launch", request.wait ? "wait" : "exit", String(request.preserveFds)], {
    stdio: [0, 1, 2, "pipe", ...preserved],
    detached: true,
    env: {},
  });
  const ended = new Promise<void>((resolve, reject) => {
    child.on("exit", () => resolve());
    child.on("error", reject);
  });
  return { socket: child.stdio[3] as Duplex, ended };
}

/** Rejects with {@link PlanError}, what `onGate` rejects with, or EngineError; then nothing runs. `start`: makes the launcher; by default a child of ours. */
export function launchDetached(request: DetachedLaunch, start: (request: DetachedLaunch) => LauncherProcess = spawnLauncher): Promise<Detached> {
  const { socket, ended } = start(request);
  return new Promise((resolve, reject) => {
    const exit = exitPromise();
    let launched = false;
    const fail = (error: Error) => {
      socket.destroy();
      if (launched) exit.reject(error);
      else reject(error);
    };
    const take = (type: number, payload: Buffer) => {
      if (type === F.LISTENING) {
        Promise.resolve(request.onGate?.(payload.readUInt32LE(0))).then(() => socket.write(frame(F.CONTROL, ID)), fail);
      } else if (type === F.FAILED) fail(failure(request.plan, payload));
      else if (type === F.EXITED) exit.resolve({ code: payload.readUInt32LE(0), signal: payload.readUInt32LE(4) });
      else if (type === F.LAUNCHED) {
        launched = true;
        const detached: Detached = {
          pid: payload.readUInt32LE(4),
          startTime: payload.readBigUInt64LE(8),
          exited: exit.promise,
          resize: (rows, columns) => void socket.write(frame(F.RESIZE, ID, sizeBytes(rows, columns))),
        };
        // The process has a new parent only when the launcher is gone.
        if (request.wait) resolve(detached);
        else void ended.then(() => resolve(detached));
      }
    };
    const parser = new FrameParser((type, _id, payload) => take(type, payload));
    socket.on("data", (chunk: Buffer) => parser.push(chunk));
    socket.on("error", fail);
    socket.on("close", () => fail(new EngineError("internal", "the launcher ended without an answer")));
    ended.catch((cause: Error) => fail(new EngineError("unavailable", `the launcher cannot be started: ${cause.message}`, { cause })));
    socket.write(encode(request));
  });
}

function exitPromise(): { promise: Detached["exited"]; resolve(value: { code: number; signal: number }): void; reject(error: Error): void } {
  let resolve!: (value: { code: number; signal: number }) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<{ code: number; signal: number }>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  promise.catch(() => {}); // nobody need wait for it
  return { promise, resolve, reject };
}

function failure(plan: Plan, payload: Buffer): Error {
  const [step, errno] = [payload.readUInt32LE(0), payload.readUInt32LE(4)];
  if (step === NO_STEP) return new EngineError("kernel", `the launch failed: ${errnoMessage(errno)}`, { details: { errno: errnoName(errno) } });
  return new PlanError(plan, step, errno, errnoName(errno));
}

function sizeBytes(rows: number, columns: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16LE(rows & 0xffff, 0);
  bytes.writeUInt16LE(columns & 0xffff, 2);
  return bytes;
}

/** LAUNCH's frame, with what a monitor would need left empty; see docs/helper-protocol.md. */
function encode({ plan, tty, rows, columns, consoleSocket }: DetachedLaunch): Buffer {
  const w = new Writer(32768);
  w.raw(Buffer.alloc(FRAME_HEAD));
  const stdio = { tty, rows, columns, openStdin: false, stdinOnce: false, attachGate: 0 };
  encodeLaunch(w, { stdio, socketPath: consoleSocket ?? "", exitPath: "", pidPath: "", exitReports: [] });
  encodePlan(plan, w);
  const bytes = w.done();
  w.patch(0, bytes.length - 4);
  bytes[4] = F.LAUNCH;
  w.patch(5, ID);
  return bytes;
}
