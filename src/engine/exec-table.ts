/** Exec instances in memory: as long as their container is there. @module */
import type { Container } from "#container/container.ts";
import type { ExecRecord } from "#container/mod.ts";
import { EngineError } from "#core/errors.ts";
import type { MonitorLink } from "#linux/helper.ts";

export interface Exec {
  /** Replaced at each change. */
  record: ExecRecord;
  readonly container: Container;
  link: MonitorLink | undefined;
  /** Taken by the first start; there is no second. */
  started: boolean;
  /** Settles with the exit code. */
  readonly ended: Promise<number>;
  readonly end: (code: number) => void;
}

export function newExec(record: ExecRecord, container: Container): Exec {
  let end!: (code: number) => void;
  const ended = new Promise<number>((resolve) => (end = resolve));
  return { record, container, link: undefined, started: false, ended, end };
}

export class ExecTable {
  readonly #byId = new Map<string, Exec>();

  add(record: ExecRecord, container: Container): Exec {
    const exec = newExec(record, container);
    this.#byId.set(record.id, exec);
    container.execs.add(record.id);
    return exec;
  }

  /** By id or unambiguous prefix. @throws EngineError "not-found" */
  get(id: string): Exec {
    const exact = this.#byId.get(id);
    if (exact !== undefined) return exact;
    const matches = id === "" ? [] : [...this.#byId.values()].filter((e) => e.record.id.startsWith(id));
    const [only] = matches;
    if (only === undefined || matches.length > 1) throw new EngineError("not-found", `No such exec instance: ${id}`);
    return only;
  }

  /** Ids of those that still run. */
  running(container: Container): string[] {
    return [...container.execs].filter((id) => this.#byId.get(id)?.record.running === true);
  }

  dropContainer(container: Container): void {
    for (const id of container.execs) this.#byId.delete(id);
    container.execs.clear();
  }
}
