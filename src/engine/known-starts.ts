/**
 * What has been computed for a container is not computed again for the next that differs from it in nothing but id and name: whether this host can do what
 * it asks for, and the plan of its start. Both are pure in what {@link shapeOf} has of a container, wherever the host need not be asked.
 * @module
 */
import type { CgroupPlan } from "#cgroup/mod.ts";
import type { ContainerRecord } from "#container/mod.ts";
import { PlanPattern, renameIn } from "#linux/plan-pattern.ts";
import type { Plan, Step } from "#linux/plan.ts";
import { devicePathsOf } from "#runtime/mod.ts";

/** What is launched, but for the steps that come first. */
export interface PlannedStart {
  readonly plan: (first: readonly Step[]) => Plan;
  readonly cgroup: Pick<CgroupPlan, "paths" | "exitReports">;
}

/** So many different kinds of containers are in use at a time, at some 30 KB each. */
const MOST = 16;

class Recent<T> {
  readonly #byShape = new Map<string, T>();
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  get(shape: string): T | undefined {
    const found = this.#byShape.get(shape);
    if (found !== undefined) this.set(shape, found);
    return found;
  }

  set(shape: string, value: T): void {
    this.#byShape.delete(shape);
    this.#byShape.set(shape, value);
    if (this.#byShape.size > this.#most) for (const oldest of this.#byShape.keys()) return void this.#byShape.delete(oldest);
  }
}

export class KnownStarts {
  /** By {@link shapeOf}: what this host cannot do for such a container. */
  readonly warnings: Recent<readonly string[]>;
  /** Plans of execs, by all that they depend on. */
  readonly execs: Recent<PlanPattern>;
  readonly #starts: Recent<{ readonly id: string; readonly pattern: PlanPattern; readonly cgroup: string }>;

  /** Of the `most` kinds that were used last. */
  constructor(most: number = MOST) {
    this.warnings = new Recent(most);
    this.execs = new Recent(most);
    this.#starts = new Recent(most);
  }

  /** The start of a container of this shape, if one has been planned. */
  find(shape: string, id: string): PlannedStart | undefined {
    const known = this.#starts.get(shape);
    if (known === undefined) return undefined;
    return {
      plan: (first) => known.pattern.for(id, first),
      cgroup: JSON.parse(renameIn(known.cgroup, known.id, id)) as PlannedStart["cgroup"], // it was one, see `add`
    };
  }

  add(shape: string, id: string, plan: Plan, { paths, exitReports }: PlannedStart["cgroup"]): void {
    this.#starts.set(shape, { id, pattern: new PlanPattern(plan, id), cgroup: JSON.stringify({ paths, exitReports } satisfies PlannedStart["cgroup"]) });
  }
}

/**
 * All of a container that a plan can depend on, without its id, and `more` that it depends on. Undefined for one whose plan depends on what is found on the
 * host: devices, the sources of mounts.
 */
export function shapeOf(record: ContainerRecord, more: readonly unknown[] = []): string | undefined {
  const { id, name: _name, created: _created, state: _state, endpoints: _endpoints, ports: _ports, cgroup: _cgroup, restartCount: _count, ...rest } = record;
  const { hostConfig } = rest;
  const asksHost =
    hostConfig.Privileged ||
    rest.mounts.length > 0 ||
    (hostConfig.Devices?.length ?? 0) > 0 ||
    (hostConfig.DeviceRequests?.length ?? 0) > 0 ||
    devicePathsOf(hostConfig).length > 0;
  return asksHost ? undefined : renameIn(JSON.stringify([rest, more]), id, "*".repeat(id.length));
}
