/**
 * What the runtime keeps of a container between commands: `ROOT/ID/state.json`, and `exec.fifo` while it waits to be started.
 * @module
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { CgroupPaths } from "#cgroup/mod.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { OciSpec } from "#core/runtime-spec.ts";

export interface StoredState {
  readonly id: string;
  /** 0 while it is being created (or its creation was killed half way). */
  readonly pid: number;
  /** Decimal: it may exceed what a JSON number holds. */
  readonly startTime: string;
  readonly bundle: string;
  readonly rootfs: string;
  /** RFC 3339. */
  readonly created: string;
  readonly cgroup: CgroupPaths | undefined;
  readonly paused: boolean;
  /** Made with `--no-new-keyring`; what is executed in it keeps its caller's, too. */
  readonly noKeyring?: boolean;
  readonly spec: OciSpec;
}

export type Status = "creating" | "created" | "running" | "paused" | "stopped";

/** `runc state`'s answer; a superset of the spec's. */
export interface OciState {
  readonly ociVersion: string;
  readonly id: string;
  readonly pid: number;
  readonly status: Status;
  readonly bundle: string;
  readonly rootfs?: string;
  readonly created?: string;
  readonly owner?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** The version of the runtime spec that this runtime follows. */
export const OCI_VERSION = "1.2.0";

export class StateStore {
  readonly root: string;

  constructor(root: string) {
    this.root = root;
  }

  directory(id: string): string {
    if (!/^[\w+.-]+$/.test(id) || id === "." || id === "..") throw new EngineError("invalid", `invalid container ID format: "${id}"`);
    return join(this.root, id);
  }

  fifo(id: string): string {
    return join(this.directory(id), "exec.fifo");
  }

  /** Takes the id. EngineError "conflict" when there is such a container. */
  reserve(id: string): void {
    const directory = this.directory(id);
    mkdirSync(this.root, { recursive: true, mode: 0o700 });
    try {
      mkdirSync(directory, { mode: 0o711 });
    } catch (error) {
      if (errnoOf(error) === "EEXIST") throw new EngineError("conflict", `container with given ID already exists: ${id}`);
      throw error;
    }
  }

  write(state: StoredState): void {
    const path = join(this.directory(state.id), "state.json");
    writeFileSync(`${path}.new`, JSON.stringify(state), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }

  /** EngineError "not-found". */
  read(id: string): StoredState {
    try {
      // Written by us, replaced as a whole.
      return JSON.parse(readFileSync(join(this.directory(id), "state.json"), "utf8")) as StoredState;
    } catch (error) {
      if (errnoOf(error) === "ENOENT") throw new EngineError("not-found", `container "${id}" does not exist`);
      throw error;
    }
  }

  /** All containers, by their ids; one that goes meanwhile (or has no state yet) is none. */
  all(): StoredState[] {
    let ids: string[];
    try {
      ids = readdirSync(this.root).sort();
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return [];
      throw error;
    }
    return ids.flatMap((id) => {
      try {
        return [this.read(id)];
      } catch (error) {
        if (error instanceof EngineError && error.code === "not-found") return [];
        throw error;
      }
    });
  }

  remove(id: string): void {
    rmSync(this.directory(id), { recursive: true, force: true });
  }

  status(state: StoredState): Status {
    if (state.pid === 0) return "creating";
    if (!isAlive(state)) return "stopped";
    if (exists(this.fifo(state.id))) return "created";
    return state.paused ? "paused" : "running";
  }
}

export function exists(path: string): boolean {
  try {
    statSync(path);
    return true;
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return false;
    throw error;
  }
}

/** The process that we started, and not another with its number; one that has ended and is not reaped yet does not live. */
export function isAlive({ pid, startTime }: Pick<StoredState, "pid" | "startTime">): boolean {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ESRCH") return false;
    throw error;
  }
  // Fields after the name, which may hold anything.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] !== "Z" && fields[0] !== "X" && fields[19] === startTime;
}

/** The state as the spec has it. */
export function ociState(state: Omit<StoredState, "cgroup" | "paused" | "noKeyring">, status: Status, pid: number = state.pid): OciState {
  const annotations = state.spec.annotations;
  return {
    ociVersion: OCI_VERSION,
    id: state.id,
    pid: status === "stopped" ? 0 : pid,
    status,
    bundle: state.bundle,
    rootfs: state.rootfs,
    created: state.created,
    owner: "",
    ...(annotations === undefined ? {} : { annotations }),
  };
}
