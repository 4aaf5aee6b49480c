/**
 * A plan while it is being written: steps in order, sections, and which descriptor slots are free.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import type { Op } from "#linux/ops.gen.ts";
import { MAX_SLOTS, type Plan, type Step } from "#linux/plan.ts";
import { slots } from "./slots.ts";

type Extra = Pick<Step, "see" | "ignore">;

export class Draft {
  readonly #steps: Step[] = [];
  readonly #used = new Set<number>();
  #section: string | undefined;

  /** The next step opens a paragraph under this heading. */
  section(title: string): void {
    this.#section = title;
  }

  /** A step of the monitor, outside the container. */
  host(op: Op, why: string, extra: Extra = {}): void {
    this.add({ ...op, where: "host", why, ...extra });
  }

  /** A step of the container's first process. */
  child(op: Op, why: string, extra: Extra = {}): void {
    this.add({ ...op, where: "child", why, ...extra });
  }

  /** Steps that others planned. */
  add(...steps: readonly Step[]): void {
    for (const step of steps) {
      const section = step.section ?? this.#section;
      this.#steps.push(section === undefined ? step : { ...step, section });
      this.#section = undefined;
    }
  }

  /** A free slot, taken until {@link release}. */
  take(): number {
    for (let slot: number = slots.free; slot < MAX_SLOTS; slot++) {
      if (this.#used.has(slot)) continue;
      this.#used.add(slot);
      return slot;
    }
    throw new EngineError("unsupported", `a container cannot have more than ${MAX_SLOTS - slots.free} binds and layers that need a descriptor at once`);
  }

  /** Free slots that follow each other. */
  takeRange(count: number): readonly number[] {
    for (let first: number = slots.free; first + count <= MAX_SLOTS; first++) {
      const range = Array.from({ length: count }, (_, i) => first + i);
      if (range.some((slot) => this.#used.has(slot))) continue;
      for (const slot of range) this.#used.add(slot);
      return range;
    }
    throw new EngineError("unsupported", `a root of ${count} files that must be block devices at once is more than this kernel can be given`);
  }

  /** How many slots {@link take} has left. */
  get freeSlots(): number {
    return MAX_SLOTS - slots.free - this.#used.size;
  }

  /** The slot was closed, or will be filled anew (which closes it). */
  release(slot: number): void {
    this.#used.delete(slot);
  }

  /** Slots taken and not released. */
  get openSlots(): readonly number[] {
    return [...this.#used].sort((a, b) => a - b);
  }

  plan(): Plan {
    return { steps: this.#steps };
  }
}
