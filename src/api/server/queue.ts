/** A callback's reports as an async iterable: how `load` and `bootstrap` become progress streams. @module */

/** Runs `work` and yields what it emits, in order; throws what it throws, after what it emitted before. */
export async function* emitted<T>(work: (emit: (item: T) => void) => Promise<void>): AsyncGenerator<T, void, undefined> {
  let items: T[] = [];
  let wake: (() => void) | undefined;
  let outcome: { readonly error?: unknown } | undefined;
  const settle = (result: { readonly error?: unknown }): void => {
    outcome = result;
    wake?.();
  };
  work((item) => {
    items.push(item);
    wake?.();
  }).then(
    () => settle({}),
    (error: unknown) => settle({ error }),
  );
  for (;;) {
    const batch = items;
    items = [];
    yield* batch;
    if (items.length > 0) continue;
    if (outcome) break;
    await new Promise<void>((resolve) => (wake = resolve));
    wake = undefined;
  }
  if ("error" in outcome) throw outcome.error;
}
