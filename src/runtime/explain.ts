/**
 * `wherry run --explain`: a plan as text or JSON. This is how people learn what a container is, so each step says what, why, and where to
 * read on.
 * @module
 */
import type { Op } from "#linux/ops.gen.ts";
import { opTable } from "#linux/ops.gen.ts";
import type { Plan, Step } from "#linux/plan.ts";
import { type NamespaceKind, namespaceKinds } from "#namespace/mod.ts";
import { OpDescriber } from "./describe-op.ts";

const head = `A container is a process that the kernel shows a world of its own. These are the steps that make one, in order.
"host" steps run outside, as root of the host; "child" steps run in the process that will become the container.
<root> is the container's root directory, wherever it is attached at that moment.
`;

/** Text for a terminal. A reason that was just given is not repeated. */
export function explainPlan(plan: Plan): string {
  const describer = new OpDescriber();
  const lines: string[] = [head];
  const width = String(plan.steps.length).length;
  const indent = " ".repeat(width + 9);
  let section = "";
  let said = new Set<string>();
  for (const [index, step] of plan.steps.entries()) {
    if (step.section !== undefined && step.section !== section) {
      section = step.section;
      said = new Set();
      lines.push(`${index === 0 ? "" : "\n"}${section}`);
    }
    lines.push(`  ${String(index + 1).padStart(width)} ${step.where.padEnd(5)} ${shortenIds(describer.describe(step))}`);
    const reason = `${indent}${step.why}. [${pageOf(step)}]${tolerance(step)}`;
    if (!said.has(reason)) lines.push(reason);
    said.add(reason);
    if (step.op === "clone") for (const kind of newNamespaces(step.flags)) lines.push(`${indent}${kind.flagName.padEnd(7)} ${kind.isolates}. [${kind.man}]`);
  }
  return `${lines.join("\n")}\n`;
}

/** Container ids as people see them. */
function shortenIds(text: string): string {
  return text.replace(/([0-9a-f]{12})[0-9a-f]{52}(?![0-9a-f])/g, "$1…");
}

const toleranceText: Readonly<Record<string, string>> = {
  ENOENT: "if it exists",
  EEXIST: "if it is not there yet",
  ENOSYS: "if the kernel can",
  ENOTDIR: "whichever it is",
};

/** Which failures are none, for people. */
function tolerance(step: Step): string {
  // EBADF follows an open that was allowed to fail, and has been told there.
  const words = [...new Set((step.ignore ?? []).filter((name) => name !== "EBADF").map((name) => toleranceText[name] ?? `${name} is no error`))];
  return words.length === 0 ? "" : ` (${words.join(", ")})`;
}

function newNamespaces(flags: bigint): NamespaceKind[] {
  return namespaceKinds.filter((kind) => (flags & kind.flag) !== 0n);
}

function pageOf(step: Step): string {
  return step.see ?? opTable[step.op].man;
}

/** A plan as JSON: 64-bit numbers as hex strings, bytes as base64. `call` is the text form. */
export function planToJson(plan: Plan): string {
  const describer = new OpDescriber();
  const steps = plan.steps.map((step, index) => ({
    step: index + 1,
    section: step.section,
    where: step.where,
    op: step.op,
    call: describer.describe(step),
    why: step.why,
    see: pageOf(step),
    ignore: step.ignore ?? [],
    args: Object.fromEntries(opTable[step.op].fields.map(([name]) => [name, jsonValue((step as Op as unknown as Record<string, unknown>)[name])])),
  }));
  return `${JSON.stringify({ version: 1, steps }, undefined, 2)}\n`;
}

function jsonValue(value: unknown): unknown {
  if (typeof value === "bigint") return `0x${value.toString(16)}`;
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  return value;
}
