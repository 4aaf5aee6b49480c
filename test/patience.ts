/**
 * How long tests wait: the one place that knows of slow machines.
 * @module
 */

/** An emulated CPU computes some ten times slower, and shares the machine's with others. */
export const patience: number = process.env["WHERRY_IN_VM"] === undefined ? 1 : 8;

/** A time to wait for something, in this machine's milliseconds. */
export function patient(ms: number): number {
  return ms * patience;
}

/** vitest's own times for what needs a real kernel. */
export const integrationTimes: {
  readonly testTimeout: number;
  readonly hookTimeout: number;
  readonly expect: { readonly poll: { readonly timeout: number } };
} = {
  testTimeout: patient(120_000),
  hookTimeout: patient(150_000),
  expect: { poll: { timeout: patient(10_000) } },
};
