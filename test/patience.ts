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
