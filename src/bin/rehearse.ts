/**
 * Runs the commonest command a number of times after the daemon's start, with an engine that performs nothing: afterwards V8 has compiled what stands
 * between a command line and the bytes of a plan. Without, the first hundred runs are 2 ms slower (docs/adr/0040).
 * @module
 */
import { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { Socket } from "node:net";
import { createInProcessClient } from "#api/client/in-process.ts";
import { createApiServer } from "#api/server/mod.ts";
import { main } from "#cli/main.ts";
import type { Engine } from "#engine/mod.ts";
import { version } from "#engine/version.ts";
import { StubSession } from "./stub-session.ts";

/** A daemon that lives shorter than this does not need it. */
const DELAY_MS = 1000;
/** Between two, so that nobody is kept waiting for more than one. */
const PAUSE_MS = 15;
const TIMES = 100;
/** So many of them are each the first of its kind, which the engine has to plan. */
const DIFFERENT = 60;
const argv = (i: number) => [
  ...["run", "--rm", "--userns", "host", "--network", "none"],
  ...(i < DIFFERENT ? ["--env", `REHEARSAL=${i}`] : []),
  ...["rehearsal", "true"],
];

type Log = (level: "debug", message: string) => void;

/** Ends early, without an error, when `signal` is aborted. */
export async function rehearseLater(engine: Engine, log: Log, signal: AbortSignal): Promise<void> {
  try {
    await sleep(DELAY_MS, undefined, { signal, ref: false });
    await rehearse(engine, { times: TIMES, pauseMs: PAUSE_MS, signal });
  } catch (error) {
    if (!signal.aborted) log("debug", `rehearsal: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  }
}

/** @throws Error when one of the runs does not end with 0 */
export async function rehearse(engine: Engine, options: { readonly times: number; readonly pauseMs: number; readonly signal: AbortSignal }): Promise<void> {
  await using rehearsal = await engine.rehearsal();
  const { dispatch } = createApiServer(rehearsal.engine, { version, log: () => undefined });
  const client = createInProcessClient({ dispatch, host: "" });
  for (let i = 0; i < options.times; i++) {
    let said = "";
    const session = sessionWith(argv(i), (text) => (said += text));
    const code = await main(session, () => client);
    session.exit(code);
    if (code !== 0) throw new Error(`exit code ${code}: ${said}`);
    await sleep(options.pauseMs, undefined, { signal: options.signal, ref: false });
  }
}

function sessionWith(argv: readonly string[], onOutput: (text: string) => void): StubSession {
  const stub = new Duplex({
    read: () => undefined,
    write(chunk: Buffer, _encoding, done) {
      onOutput(chunk.toString("latin1"));
      done();
    },
  });
  const isTty = { stdin: false, stdout: false, stderr: false };
  // A session writes to its socket and ends it, which every duplex stream can.
  return new StubSession(stub as Socket, { token: "0".repeat(32), isTty, rows: 0, columns: 0, umask: 0o22, cwd: "/", argv, env: {} });
}
