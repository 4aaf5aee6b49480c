/**
 * A failed step → what people are told: what was attempted and why, the kernel's answer, a hint. Where Docker has words, Docker's words, since
 * its CLI chooses the exit code by them.
 * @module
 */
import { EngineError, type ErrorCode } from "#core/errors.ts";
import type { PlanError } from "#linux/helper.ts";
import type { Op } from "#linux/ops.gen.ts";
import { opTable } from "#linux/ops.gen.ts";
import type { Step } from "#linux/plan.ts";
import { OpDescriber } from "./describe-op.ts";

export interface PlanErrorContext {
  /** "start" = a container's first process, "exec" = one more, "copy" = a look at its files. */
  readonly action: "start" | "exec" | "copy";
}

const prefix = {
  start: "failed to create task for container: ",
  exec: "OCI runtime exec failed: exec failed: unable to start container process: ",
  copy: "cannot open the container's files: ",
} as const;

/** strerror(3). */
const errnoText: Readonly<Record<string, string>> = {
  EPERM: "operation not permitted",
  ENOENT: "no such file or directory",
  ESRCH: "no such process",
  EIO: "input/output error",
  E2BIG: "argument list too long",
  ENOEXEC: "exec format error",
  EBADF: "bad file descriptor",
  EAGAIN: "resource temporarily unavailable",
  ENOMEM: "cannot allocate memory",
  EACCES: "permission denied",
  EBUSY: "device or resource busy",
  EEXIST: "file exists",
  ENODEV: "no such device",
  ENOTDIR: "not a directory",
  EISDIR: "is a directory",
  EINVAL: "invalid argument",
  EMFILE: "too many open files",
  ETXTBSY: "text file busy",
  ENOSPC: "no space left on device",
  EROFS: "read-only file system",
  ELOOP: "too many levels of symbolic links",
  ENAMETOOLONG: "file name too long",
  ENOSYS: "function not implemented",
  EOVERFLOW: "value too large for defined data type",
  EOPNOTSUPP: "operation not supported",
  ENOTSUP: "operation not supported",
  EDQUOT: "disk quota exceeded",
  EUSERS: "too many users",
  ESTALE: "stale file handle",
};

/** The EngineError to throw for a plan that failed. */
export function renderPlanError(error: PlanError, context: PlanErrorContext): EngineError {
  const step = error.plan.steps[error.step];
  if (step === undefined)
    return new EngineError("internal", `the helper reports a failure of step ${error.step}, which the plan does not have`, { cause: error });
  const answer = errnoText[error.errno] ?? error.errno;
  const details = { errno: error.errno, step: error.step, op: step.op };
  if (step.op === "exec") {
    const { text, exitCode } = execFailure(step, error.errno, answer);
    return new EngineError("invalid", `${prefix[context.action]}${text}`, {
      cause: error,
      details: { ...details, exitCode },
      ...(error.errno === "ENOEXEC" ? { hint: "the file is not a program for this machine, or a script without a #! line" } : {}),
    });
  }
  if (step.op === "chdir" && step.where === "child") {
    return new EngineError("invalid", `${prefix[context.action]}chdir to cwd ("${step.path}") set in config.json failed: ${answer}`, {
      cause: error,
      details: { ...details, exitCode: error.errno === "ENOENT" ? 127 : 126 },
    });
  }
  const target = targetOf(step);
  // move_mount(2) answers EINVAL where mount(2) says ENOTDIR. The words are Docker's.
  if (target !== undefined && (error.errno === "ENOTDIR" || (error.errno === "EINVAL" && step.op === "move_mount"))) {
    return new EngineError(
      "invalid",
      `${prefix[context.action]}error mounting ${target}: not a directory: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type`,
      { cause: error, details: { ...details, exitCode: 125 } },
    );
  }
  const describer = new OpDescriber();
  let call = "";
  for (const earlier of error.plan.steps.slice(0, error.step + 1)) call = describer.describe(earlier);
  const hint = hintFor(step, error.errno);
  return new EngineError(
    codeFor(error.errno),
    `${prefix[context.action]}${call}: ${answer} (step ${error.step + 1}: ${step.why}; ${step.see ?? opTable[step.op].man})`,
    { cause: error, details, ...(hint === undefined ? {} : { hint }) },
  );
}

function execFailure(op: Extract<Op, { op: "exec" }>, errno: string, answer: string): { text: string; exitCode: number } {
  const command = op.argv[0] ?? "";
  const quoted = JSON.stringify(command);
  if (errno === "ENOENT" || errno === "ENOTDIR") {
    if (!command.includes("/")) return { text: `exec: ${quoted}: executable file not found in $PATH`, exitCode: 127 };
    return { text: `exec: ${quoted}: stat ${command}: ${answer}`, exitCode: 127 };
  }
  return { text: `exec: ${quoted}: ${answer}`, exitCode: 126 };
}

/** The path in the container that a step prepares or attaches to. */
function targetOf(step: Step): string | undefined {
  if (step.op === "move_mount" || step.op === "mkdir" || step.op === "mkfile") return step.path === "" ? undefined : `"/${step.path}"`;
  return undefined;
}

function codeFor(errno: string): ErrorCode {
  return errno === "ENOSPC" || errno === "EDQUOT" ? "storage" : "kernel";
}

function hintFor(step: Step, errno: string): string | undefined {
  if (step.op === "clone" && (errno === "ENOSPC" || errno === "EUSERS"))
    return "the host's limit of namespaces is reached: see /proc/sys/user/max_*_namespaces";
  if (step.op === "clone" && errno === "EAGAIN") return "the host's limit of processes is reached: see `ulimit -u` and pids.max of the engine's cgroup";
  if (step.op === "open_tree" && errno === "ENOENT") return `does ${step.path} exist on the host?`;
  if (step.op === "mount" && errno === "ENODEV") return `this kernel does not know the filesystem ${step.fstype}`;
  if (step.op === "write" && step.path.startsWith("proc/sys/"))
    return errno === "ENOENT" ? "this kernel has no such setting" : "the kernel refuses this value, or the setting is not the container's to change";
  if (step.op === "mount_setattr" && errno === "EINVAL" && step.userns !== 0xffffffff)
    return "the filesystem of this directory may not support id-mapped mounts";
  if (errno === "ENOSPC") return "a filesystem is full: see `df`, and `wherry system df`";
  return undefined;
}
