/**
 * For a process that stays: compile at first use and optimize soon. V8's own thresholds are made for loops; a command runs once now and then, and its
 * code would be interpreted for hundreds of commands. Figures: docs/adr/0040.
 *
 * Imported before everything else: what is compiled before it is not affected.
 * @module
 */
import { setFlagsFromString } from "node:v8";

setFlagsFromString("--always-sparkplug");
setFlagsFromString("--no-lazy-feedback-allocation");
if (Number.parseInt(process.versions.v8, 10) < 12) {
  // Bytes of bytecode that a function runs before it is looked at; 66 Ki by default.
  setFlagsFromString("--interrupt-budget=4000");
} else {
  // Calls; 400 and 3000 by default.
  setFlagsFromString("--invocation-count-for-maglev=30");
  setFlagsFromString("--invocation-count-for-turbofan=200");
}
