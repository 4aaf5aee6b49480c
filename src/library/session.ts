/** Keeps a session: an open answer of the engine, whose end is the session's. @module */
import { setTimeout as sleep } from "node:timers/promises";
import { isEngineError } from "#core/errors.ts";
import type { Calls } from "./calls.ts";

/** How long a daemon that starts anew is looked for. It waits as long for its sessions before it removes what they made. */
const patienceMs = 10_000;
const pauseMs = 200;

/** Resolves when the engine has taken the session. `end` resolves when what was made in it is gone. */
export async function holdSession(calls: Calls, id: string, signal: AbortSignal | undefined): Promise<{ readonly end: () => Promise<void> }> {
  const leave = new AbortController();
  const open = async () => {
    const lines = calls.lines<unknown>("POST", "/wherry/sessions", { query: { id }, signal: leave.signal });
    await lines.next(); // the engine's word that it holds the session
    return lines;
  };
  signal?.throwIfAborted();
  let lines = await open();
  let ended = false;

  const follow = async (): Promise<void> => {
    for (let deadline = Number.POSITIVE_INFINITY; !ended; ) {
      try {
        for (;;) if ((await lines.next()).done) break;
      } catch (error) {
        if (!(error instanceof Error)) throw error; // a broken connection: tried again below
      }
      if (ended) return;
      if (deadline === Number.POSITIVE_INFINITY) deadline = Date.now() + patienceMs;
      if (Date.now() > deadline) return;
      await sleep(pauseMs, undefined, { ref: false });
      try {
        lines = await open();
        deadline = Number.POSITIVE_INFINITY;
      } catch (error) {
        if (!isEngineError(error, "unavailable")) return;
      }
    }
  };
  void follow();

  return {
    end: async () => {
      if (ended) return;
      ended = true;
      await calls.json("DELETE", `/wherry/sessions/${id}`);
      leave.abort();
    },
  };
}
