/** Garbage collection at a moment of our own choice. @module */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Collections: of what is young, well under a millisecond; and of all, 10 to 30 ms in which this thread does nothing else. */
export function collector(): (type: "minor" | "major") => void {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as (options?: { readonly type: "minor" }) => void; // V8's own function
  return (type) => (type === "minor" ? gc({ type }) : gc()); // V8 11.3 takes any object for a wish to have the young ones collected
}
