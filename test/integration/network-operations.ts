/** @module */

/** What an engine does to networks while network-crash.test.ts kills it: of networks `create` and `remove`, of a container all others; `discard` removes one that runs. */
export const OPERATIONS = ["create", "connect", "start", "confine", "stop", "discard", "disconnect", "remove"] as const;
export type Operation = (typeof OPERATIONS)[number];
