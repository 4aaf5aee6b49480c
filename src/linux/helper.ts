/**
 * What the rest of the engine knows of the native helper: three ways to have a plan performed, and bulk file work.
 * @module
 */
import type { NameHandler } from "./name-sockets.ts";
import type { Plan } from "./plan.ts";
import type { ListedTree, TreeAddress } from "./file-tree.ts";

/** How the monitor holds the container's standard streams. */
export interface LaunchStdio {
  /** A pty made in the container's devpts. */
  readonly tty: boolean;
  /** Rows and columns of the pty; 0 0 = kernel default. */
  readonly rows: number;
  readonly columns: number;
  /** Keep a stdin pipe open; without, stdin is /dev/null. */
  readonly openStdin: boolean;
  /** Close stdin when the first attached client has sent EOF or gone. */
  readonly stdinOnce: boolean;
  /** Client descriptors passed through `wherry` (the stub): the monitor reads and writes them directly. Token from the stub's hello. */
  readonly direct?: { readonly token: string; readonly stdin: boolean; readonly stdout: boolean; readonly stderr: boolean; readonly detachKeys: Uint8Array };
  /** The json-file log; undefined = no log. maxFiles ≥ 1; maxBytes 0 = no rotation. */
  readonly log?: {
    readonly path: string;
    readonly maxBytes: number;
    readonly maxFiles: number;
    /** JSON that stands in every entry before its time (`,"attrs":{…}`); at most 8 KiB. */
    readonly attrs?: string;
    /** A file is thrown away only when its write permission has been taken: until then the container's output waits. */
    readonly hold?: boolean;
    /** A byte that is no UTF-8 is written as U+DC80 to U+DCFF, which no text has; without, as docker does, U+FFFD stands for all of them. */
    readonly exact?: boolean;
  };
  /** Number of attach connections that must have been made before `attach_gate` lets the child go on. */
  readonly attachGate: number;
}

export interface LaunchRequest {
  readonly plan: Plan;
  readonly stdio: LaunchStdio;
  /** Unix socket that the monitor serves (attach and control), an absolute path shorter than 108 bytes. */
  readonly socketPath: string;
  /** The monitor writes this file (rename) when init has ended. */
  readonly exitPath: string;
  /** The monitor writes its own pid, the child's pid and the child's start time here (rename) before the child runs `exec`. "": nowhere. */
  readonly pidPath: string;
  /** Files whose first 4 KiB the monitor copies into the exit record when init has ended (memory.oom_control, memory.events). */
  readonly exitReports: readonly string[];
}

/** How init ended. Times in nanoseconds since 1970. */
export interface ExitRecord {
  /** 0–255; 128+n for a signal. */
  readonly code: number;
  /** Signal number or 0. */
  readonly signal: number;
  readonly atNs: bigint;
  /** Contents of `exitReports`, same order; undefined where the file was missing. */
  readonly reports: readonly (string | undefined)[];
}

/**
 * One container's (or exec's) monitor. Works over the helper's relay right after a launch, and over the monitor's own socket after the
 * daemon or helper was restarted; callers cannot tell.
 */
export interface MonitorLink {
  readonly monitorPid: number;
  /** Host pid of init (or of the exec'ed process). */
  readonly pid: number;
  /** Field 22 of /proc/PID/stat. */
  readonly startTime: bigint;
  /** Settles when init has ended; never rejects except when the monitor is lost without a record (EngineError "internal"). */
  readonly exited: Promise<ExitRecord>;
  /**
   * Of a plan with a `rmdir_late` step: settles a moment after init's end has been told, when what a `hold_ns` step kept is let go (the container's mounts
   * are down). True: the directories of that step are gone; else nobody knows. Never rejects.
   */
  readonly left: Promise<boolean>;
  /** After init's end: asks for {@link left} at once. */
  letGo(): void;
  /** Called when the OOM killer was at work in the container, which may go on. */
  onOom?: () => void;
  /** Called, at most once a minute, when processes of the container wait for memory (cgroup v2): what its memory.pressure says. */
  onPressure?: (text: string) => void;
  /** Opens a byte stream to the container's streams. `framed`: output comes in Docker's 8-byte-header frames (never with a tty). Half-open: end() = EOF on stdin. */
  attach(options: AttachOptions): Promise<import("node:net").Socket>;
  /** Serves the sockets of the container's name server, at an IPv4 address (a number) and port in its network namespace. Resolves to what ends that; undefined: it has ended. */
  names(at: { readonly address: number; readonly port: number }, handler: NameHandler): Promise<(() => void) | undefined>;
  /** Signals init through a pidfd; false when it has ended. */
  kill(signal: number): Promise<boolean>;
  resize(rows: number, columns: number): Promise<void>;
  /** Asks the monitor to reopen/rotate nothing; resolves when all output read so far is in the log file (for `logs`). */
  flush(): Promise<void>;
  /** A rotated file of the log has been compressed as `LOG.gz.tmp`: takes the place of the one with this inode. false: that one is gone; undefined: the monitor is. */
  logPacked(inode: bigint): Promise<boolean | undefined>;
  /**
   * With `direct`: what became of the command's descriptors. "delivered": init has ended and all output is written (may come a little after
   * {@link exited}); "detached": the detach keys were typed; "gone": the command's process ended; "broken": nobody reads its output any more.
   */
  readonly direct?: Promise<"delivered" | "detached" | "gone" | "broken">;
}

export interface AttachOptions {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** Bytes that detach when typed on stdin; empty = none. */
  readonly detachKeys: Uint8Array;
}

/** Blobs that `report` steps sent: tag → bytes (undefined = the file does not exist). */
export type Reports = ReadonlyMap<number, Uint8Array | undefined>;

export interface Helper {
  /** Performs a plan without clone. Rejects with {@link PlanError}. */
  call(plan: Plan): Promise<Reports>;
  /** Performs a plan whose last step goes on reporting; each report as it comes (undefined: something is missing). Rejects when it ends: with {@link PlanError}, or because the helper did. */
  watch(plan: Plan, onReport: (tag: number, data: Uint8Array | undefined) => void): Promise<never>;
  /** Forks a monitor which performs the plan; resolves after the child's exec has succeeded. Rejects with {@link PlanError}; then nothing runs. `onListening` is called when the monitor's socket accepts (before `attach_gate`). */
  launch(request: LaunchRequest, onListening?: (attach: MonitorLink["attach"]) => void): Promise<MonitorLink>;
  /** Reconnects to the monitor of a running container after a restart; undefined when it is gone (read exitPath then). */
  reconnect(socketPath: string, pidPath: string, exitPath?: string): Promise<MonitorLink | undefined>;
  /** File work below one directory, chrooted there, in a process of its own. */
  /**
   * With a plan (no clone), its steps are performed first and leave the directory open in slot 0; `root` is then only its name in messages. Such a tree
   * is a container's, which may change it meanwhile: it is guarded. Links on the way are followed below the root only, the last component never
   * (`x/.` is what the link x leads to); walks cross mounts, but the kernel's own filesystems (proc, sysfs, …) look empty. Missing parents are an
   * error. Rejects with {@link PlanError}.
   */
  openTree(root: string, plan?: Plan): Promise<ListedTree>;
  /** Starts a tree's worker, for somebody in this process who connects to it by `connectTree`: once, and within half a minute. */
  startTree(root: string): Promise<TreeAddress>;
  /** The helper's program, which has further roles: a FUSE server. */
  readonly program: string;
  /** Lets stub clients' descriptors arrive: path of the socket that `wherry` sends them to, with a token. */
  readonly fdSocketPath: string;
  close(): Promise<void>;
}

/** A plan failed at a step. `where` and `step` index the plan. */
export class PlanError extends Error {
  readonly plan: Plan;
  readonly step: number;
  /** errno number; name in `errno`. */
  readonly errnoNumber: number;
  readonly errno: string;
  constructor(plan: Plan, step: number, errnoNumber: number, errno: string) {
    super(`step ${step} (${plan.steps[step]?.op ?? "?"}): ${errno}`);
    this.name = "PlanError";
    this.plan = plan;
    this.step = step;
    this.errnoNumber = errnoNumber;
    this.errno = errno;
  }
}
