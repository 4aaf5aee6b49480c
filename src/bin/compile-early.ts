/**
 * For a process that stays: V8 learns of a function from its first call on. It waits for eight by default, which a command that runs once now and then
 * takes many runs to reach. Figures, and why nothing more is asked of V8: docs/adr/0040.
 *
 * Imported before everything else: what is compiled before it is not affected.
 * @module
 */
import { setFlagsFromString } from "node:v8";

setFlagsFromString("--no-lazy-feedback-allocation");
