/** Detach keys are read by the engine too (exec's own). @module */
export { defaultDetachKeys, parseDetachKeys } from "#core/detach-keys.ts";
