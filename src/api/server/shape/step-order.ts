import type { BuildEvent, Report } from "#build/solver/progress.ts";

/** Passes events on in the order of their steps: what a later one says waits until the earlier ones have ended. For clients that read one text. */
export function inStepOrder(report: Report): Report {
  const waiting = new Map<number, BuildEvent[]>();
  let current = 1;
  return (event) => {
    const number = event.step?.number ?? current;
    if (number > current && event.kind !== "failed") {
      waiting.set(number, [...(waiting.get(number) ?? []), event]);
      return;
    }
    report(event);
    for (let last: BuildEvent | undefined = event; last?.kind === "done" && last.step.number === current; ) {
      current++;
      const next: BuildEvent[] = waiting.get(current) ?? [];
      waiting.delete(current);
      for (const held of next) report(held);
      last = next.at(-1);
    }
  };
}
