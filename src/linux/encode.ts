/**
 * Plan → bytes, from the table of operations: `u32 steps`, then per step `u32 length · u16 code · u8 where · u8 n · u16 errno… · fields`.
 * @module
 * @see docs/helper-protocol.md
 */
import { EngineError } from "#core/errors.ts";
import { errnoNumber } from "./errno.ts";
import { type FieldType, type Op, opTable } from "./ops.gen.ts";
import { MAX_SLOTS, NO_SLOT, type Plan, type Step } from "./plan.ts";
import { Writer } from "./wire.ts";

/** The helper refuses more. */
export const MAX_PLAN_BYTES: number = 4 << 20;
const MAX_STRING_BYTES = 1 << 20;
const MAX_IGNORED = 4;

type Value = number | bigint | string | Uint8Array | readonly string[] | readonly number[];

// Each encoder gets the type that ops.gen.ts gives its field; the table ties them together, which the compiler cannot follow.
const encoders: Readonly<Record<FieldType, (w: Writer, value: never) => void>> = {
  u32: (w, value: number) => w.u32(value),
  i32: (w, value: number) => w.i32(value),
  u64: (w, value: bigint) => w.u64(value),
  str: (w, value: string) => w.str(value),
  bytes: (w, value: Uint8Array) => w.bytes(value),
  strs: (w, value: readonly string[]) => w.strs(value),
  u32s: (w, value: readonly number[]) => w.u32s(value),
  slot: (w, value: number) => w.u32(checkSlot(value, true)),
  out: (w, value: number) => w.u32(checkSlot(value, false)),
};

function checkSlot(slot: number, noneAllowed: boolean): number {
  if ((noneAllowed && slot === NO_SLOT) || (Number.isInteger(slot) && slot >= 0 && slot < MAX_SLOTS)) return slot;
  throw new RangeError(`slot ${slot} is outside 0–${MAX_SLOTS - 1}`);
}

/** Appends the plan's bytes. EngineError "invalid" names the step and field that cannot be encoded. */
export function encodePlan(plan: Plan, w: Writer = new Writer(8192)): Writer {
  const start = w.length;
  const { known } = plan;
  const steps = known === undefined ? plan.steps : known.first;
  w.u32(steps.length + (known?.count ?? 0));
  encodeSteps(steps, w);
  if (known !== undefined) w.raw(known.bytes);
  if (w.length - start > MAX_PLAN_BYTES)
    throw new EngineError("invalid", `the plan has ${w.length - start} bytes, and at most ${MAX_PLAN_BYTES} can be performed`);
  return w;
}

/** Appends the bytes of steps that stand at the plan's beginning. */
export function encodeSteps(steps: readonly Step[], w: Writer = new Writer(16384)): Writer {
  for (let index = 0; index < steps.length; index++) encodeStep(w, steps[index] as Step, index);
  return w;
}

function encodeStep(w: Writer, step: Step, index: number): void {
  const { code, fields } = opTable[step.op];
  const ignored = (step.ignore ?? []).map((name) => requireErrno(name, step.op, index));
  if (ignored.length > MAX_IGNORED) throw new EngineError("internal", `step ${index} (${step.op}) ignores more than ${MAX_IGNORED} errors`);
  const start = w.length;
  w.u32(0);
  w.u16(code);
  w.u8(step.where === "host" ? 0 : 1);
  w.u8(ignored.length);
  for (const number of ignored) w.u16(number);
  for (const [name, type] of fields) {
    const value = (step as Op as unknown as Record<string, Value>)[name];
    const before = w.length;
    try {
      encoders[type](w, value as never);
    } catch (cause) {
      throw new EngineError("invalid", `step ${index} (${step.op}): ${name}: ${cause instanceof Error ? cause.message : cause}`, { cause });
    }
    if (w.length - before > MAX_STRING_BYTES)
      throw new EngineError("invalid", `step ${index} (${step.op}): ${name} has ${w.length - before} bytes, more than ${MAX_STRING_BYTES}`);
  }
  w.patch(start, w.length - start - 4);
}

function requireErrno(name: string, op: string, index: number): number {
  const number = errnoNumber(name);
  if (number === undefined) throw new EngineError("internal", `step ${index} (${op}) ignores ${name}, which is no error of Linux`);
  return number;
}
