/**
 * The last things before the program runs: its limits, its identity, what it may do, and `exec`. Shared by the start of a container and by exec.
 * @module
 */
import { own } from "#core/own.ts";
import { EngineError } from "#core/errors.ts";
import type { OciLinux, OciProcess } from "#core/runtime-spec.ts";
import { capabilityMask } from "#linux/capabilities.ts";
import { O, PR, RLIM_INFINITY, RLIMITS } from "#linux/flags.ts";
import type { SeccompArch } from "#linux/bpf/profile.ts";
import type { Op } from "#linux/ops.gen.ts";
import { NO_SLOT } from "#linux/plan.ts";
import type { Draft } from "./draft.ts";
import type { DetachedProcess, HookRun } from "./mod.ts";
import { planLabels, planPersonality, planScheduling } from "./process-attributes.ts";
import { letsBeReborn, planRebirth } from "./rebirth.ts";
import { seccompFlags } from "./seccomp.ts";

export interface ProcessOptions {
  readonly process: OciProcess;
  readonly seccomp: Uint8Array | undefined;
  readonly seccompFlags?: number | undefined;
  readonly personality?: OciLinux["personality"];
  /** docker-init, and its arguments: it runs the program. */
  readonly init?: { readonly path: string; readonly argv: readonly string[] };
  readonly detached?: DetachedProcess;
  /** It joins a PID namespace, and becomes visible there last of all: see rebirth.ts. */
  readonly rebirth?: { readonly arch: SeccompArch };
  /** Its labels are planned elsewhere. */
  readonly labelled?: boolean;
  readonly startContainer?: readonly HookRun[] | undefined;
  /** Slot of {@link planStartFifo}. */
  readonly fifo?: number | undefined;
}

/** Opens the FIFO of a start that comes later, for reading and writing: so a read waits even when nobody has it open. Returns its slot. */
export function planStartFifo(draft: Draft, detached: DetachedProcess | undefined): number | undefined {
  if (detached?.fifo === undefined) return undefined;
  const slot = draft.take();
  draft.section("How it will be started");
  draft.host({ op: "mknod", dir: NO_SLOT, path: detached.fifo, mode: 0o010600, major: 0, minor: 0, uid: 0, gid: 0 }, "a FIFO beside its state", {
    see: "fifo(7)",
  });
  draft.host({ op: "openat", dir: NO_SLOT, path: detached.fifo, flags: O.RDWR, mode: 0, out: slot }, "the word to start the program will come through it", {
    see: "fifo(7)",
  });
  return slot;
}

export function planHooks(draft: Draft, hooks: readonly HookRun[] | undefined, why: string, where: "child" | "host" = "child"): void {
  for (const hook of hooks ?? []) draft[where](hookOp(hook), why);
}

export function hookOp({ path, args, env, head, tail, timeoutMs }: HookRun): Extract<Op, { op: "hook" }> {
  return { op: "hook", path, argv: args.length === 0 ? [path] : args, envp: env, head, tail, timeout_ms: timeoutMs };
}

/** The launcher ends here, and the program waits for its start. */
function planGate(draft: Draft, { detached, fifo, startContainer }: ProcessOptions, paths: readonly string[]): void {
  if (detached !== undefined)
    draft.child(
      { op: "exec_gate", fifo: fifo ?? NO_SLOT, paths },
      fifo === undefined ? "the launcher ends; the process is its caller's from here on" : "created; the program waits until it is started",
    );
  planHooks(draft, startContainer, "a hook of the spec, before the program");
}

/** Written by the child while it still has the host's /proc and rights; `fromOutside`: by the host, for a child that is born without them. */
export function planOomScore(draft: Draft, process: OciProcess, fromOutside = false): void {
  if (process.oomScoreAdj === undefined) return;
  if (fromOutside) {
    draft.host(
      { op: "child_proc", name: "oom_score_adj", data: String(process.oomScoreAdj) },
      "how likely the kernel picks it when memory runs out (-1000 never, 1000 first)",
      { see: "proc(5)" },
    );
    return;
  }
  draft.child(
    { op: "write", dir: NO_SLOT, path: "/proc/self/oom_score_adj", flags: 0n, data: new TextEncoder().encode(String(process.oomScoreAdj)) },
    "how likely the kernel picks it when memory runs out (-1000 never, 1000 first)",
    { see: "proc(5)" },
  );
}

/** Late: a limit of open files would else hit the plan's own descriptors. Before the capabilities go: raising one needs CAP_SYS_RESOURCE. */
function planRlimits(draft: Draft, process: OciProcess): void {
  for (const { type, soft, hard } of process.rlimits ?? []) {
    const name = type.replace(/^RLIMIT_/, "").toLowerCase();
    const limit = own(RLIMITS, name);
    if (limit === undefined) throw new EngineError("invalid", `unknown rlimit "${type}"`);
    draft.child({ op: "rlimit", resource: limit.number, soft: toLimit(soft), hard: toLimit(hard) }, `limits ${limit.proc.replace(/^Max /, "")} per process`);
  }
}

/** 2^32-1 is -1, which tells setresuid(2) and its like to change nothing: the process would stay the engine's root. */
function requireId(id: number): void {
  if (!Number.isInteger(id) || id < 0 || id >= 2 ** 32 - 1) throw new EngineError("invalid", `${id} is not a user or group id (0-4294967294)`);
}

/** A JavaScript number cannot hold 2^64-1: what is near it means "unlimited". */
function toLimit(value: number): bigint {
  return value < 0 || value >= 2 ** 63 ? RLIM_INFINITY : BigInt(value);
}

/** There is one thread, but for the messenger of the listener, which must stay outside. */
const TSYNC = 1;

/** Host step before `clone`: the socket's path is the host's. */
export function planListener(draft: Draft, detached: DetachedProcess | undefined): void {
  const listener = detached?.listener;
  if (listener === undefined) return;
  const empty = new Uint8Array();
  draft.host(
    { op: "seccomp_notify", flags: 0, filter: empty, socket: listener.socket, head: empty, tail: empty },
    "the agent that will answer for system calls",
  );
}

/** Working directory, identity, capabilities, filter, exec. Every descriptor that is not the program's must be closed before. */
export function planProcess(draft: Draft, options: ProcessOptions): void {
  const { process, seccomp, init } = options;
  if (process.args.length === 0) throw new EngineError("invalid", "no command specified");
  const { user, capabilities = {} } = process;
  for (const id of [user.uid, user.gid, ...(user.additionalGids ?? [])]) requireId(id);
  const bounding = capabilityMask(capabilities.bounding ?? []);
  const ambient = capabilityMask(capabilities.ambient ?? []);
  const [effective, permitted, inheritable] = [capabilities.effective, capabilities.permitted, capabilities.inheritable].map((names) =>
    capabilityMask(names ?? []),
  ) as [bigint, bigint, bigint];
  const late = process.noNewPrivileges === true;
  const filter = () => {
    if (seccomp === undefined) return;
    const flags = options.seccompFlags ?? seccompFlags(undefined);
    const listener = options.detached?.listener;
    if (listener !== undefined)
      draft.child(
        { op: "seccomp_notify", flags: flags & ~TSYNC, filter: seccomp, socket: "", head: listener.head, tail: listener.tail },
        "from here on the kernel refuses some system calls, and asks an agent about others",
      );
    else draft.child({ op: "seccomp", flags, filter: seccomp }, "from here on the kernel refuses the system calls that a container does not need");
  };
  const { rebirth } = options;
  // Where the filter would forbid it, before the filter: still with the rights to install it.
  const early = !late && rebirth !== undefined && (options.detached?.listener !== undefined || !letsBeReborn(seccomp, rebirth.arch));
  const reborn = () => {
    if (rebirth !== undefined) planRebirth(draft, options.detached?.preserveFds ?? 0, options.fifo);
  };
  draft.section("Who it is");
  draft.child({ op: "chdir", path: process.cwd }, "the working directory");
  planScheduling(draft, process);
  planPersonality(draft, options.personality);
  if (options.labelled !== true) planLabels(draft, process);
  planRlimits(draft, process);
  draft.child({ op: "umask", mask: user.umask ?? 0o022 }, "files that it makes are writable by their owner only");
  if (late) draft.child({ op: "prctl", option: PR.SET_NO_NEW_PRIVS, arg: 1n }, "set-uid programs give no rights here");
  draft.child({ op: "cap_bset", keep: bounding }, "even a set-uid root program can never get more than these capabilities");
  if (user.uid !== 0)
    draft.child({ op: "prctl", option: PR.SET_KEEPCAPS, arg: 1n }, "keeps capabilities over the change of user, to set them exactly afterwards");
  draft.child({ op: "setgroups", gids: user.additionalGids ?? [] }, "its supplementary groups, and no longer the engine's");
  draft.child({ op: "setresgid", gid: user.gid }, "its group");
  draft.child({ op: "setresuid", uid: user.uid }, user.uid === 0 ? "root (of the container)" : "its user");
  // Before the filter, which may know none of these calls.
  draft.child({ op: "close_range", first: 3 }, "nothing of the engine stays open in the program");
  const preserved = options.detached?.preserveFds ?? 0;
  if (preserved > 0) draft.child({ op: "preserve_fds", count: preserved }, "descriptors that the caller hands to the program");
  if (!late && seccomp !== undefined) {
    // Without no_new_privs, installing a filter takes CAP_SYS_ADMIN: as the last thing before the capabilities go.
    if (user.uid !== 0)
      draft.child(
        { op: "capset", effective: capabilityMask(["CAP_SYS_ADMIN"]), permitted: permitted | capabilityMask(["CAP_SYS_ADMIN"]), inheritable },
        "once more enough rights to install the filter",
      );
    if (early) reborn();
    filter();
  }
  draft.child(
    { op: "capset", effective, permitted, inheritable },
    permitted === 0n ? "no capabilities: an ordinary user" : "the pieces of root's power that it has, and no others",
  );
  if (ambient !== 0n) draft.child({ op: "cap_ambient", mask: ambient }, "capabilities that survive exec without being root");
  draft.section("Go");
  if (!early) reborn();
  const paths = init === undefined ? candidates(process.args[0] ?? "", process.env ?? []) : [init.path];
  planGate(draft, options, paths);
  if (late) filter();
  if (init !== undefined) draft.child({ op: "block_signals" }, "a signal that comes before docker-init is ready waits for it");
  const env = process.env ?? [];
  draft.child({ op: "exec", paths, argv: init?.argv ?? process.args, envp: env }, "becomes the program");
}

/** Where a program is looked for: its own path, or each directory of PATH (relative ones are not searched, as in Go's LookPath). */
export function candidates(command: string, env: readonly string[]): string[] {
  if (command.includes("/")) return [command];
  const path = env.findLast((entry) => entry.startsWith("PATH="))?.slice(5) ?? "";
  const directories = path.split(":").filter((dir) => dir.startsWith("/"));
  return directories.map((dir) => `${dir.replace(/\/+$/, "")}/${command}`);
}
