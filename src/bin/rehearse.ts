/**
 * Runs the commonest commands a number of times after the daemon's start, with an engine that performs nothing: afterwards V8 has compiled what stands
 * between a command line and the bytes of a plan. Without, the first hundred runs are 2 ms slower (docs/adr/0040). Meanwhile that engine is asked over HTTP
 * what docker's client asks for `ps` and `inspect`: without, its first calls take a millisecond longer (docs/adr/0088).
 * @module
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { join } from "node:path";
import { Duplex, PassThrough, Readable } from "node:stream";
import { setFlagsFromString } from "node:v8";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, type Socket } from "node:net";
import { createInProcessClient } from "#api/client/in-process.ts";
import { createApiServer } from "#api/server/mod.ts";
import { main } from "#cli/main.ts";
import { collector } from "#core/collector.ts";
import type { Engine } from "#engine/mod.ts";
import { version } from "#engine/version.ts";
import { Writer } from "#linux/wire.ts";
import { Draft } from "#runtime/draft.ts";
import { StubSession } from "./stub-session.ts";

/** A daemon that lives shorter than this does not need it. */
const DELAY_MS = 1000;
/** Between two, so that nobody is kept waiting for more than one. */
const PAUSE_MS = 10;
/** Of a pause: who uses more of the processor in it has something to do. */
const BUSY_SHARE = 0.5;
const TIMES = 100;
/** So many of them are each the first of its kind, which the engine has to plan. */
const DIFFERENT = 60;
/** Clients that come after each run. */
const CLIENTS_EACH = 6;
/** Bytes of bytecode that a function runs before V8 considers to optimize it: while nobody waits, and else (what V8 begins with; it cannot be asked for it). */
const KEEN_BUDGET = 16_000;
const USUAL_BUDGET = 67_584;
/** The containers that they see: one that runs, in which commands are executed, and one that was never started. */
const standing = "rehearsal";
const waiting = "rehearsal-waits";
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
    setFlagsFromString(`--interrupt-budget=${KEEN_BUDGET}`);
    try {
      await rehearse(engine, { times: TIMES, pauseMs: PAUSE_MS, signal });
    } finally {
      setFlagsFromString(`--interrupt-budget=${USUAL_BUDGET}`);
    }
  } catch (error) {
    if (!signal.aborted) log("debug", `rehearsal: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  }
}

/** @throws Error when one of the runs does not end with 0 */
export async function rehearse(engine: Engine, options: { readonly times: number; readonly pauseMs: number; readonly signal: AbortSignal }): Promise<void> {
  await using rehearsal = await engine.rehearsal();
  const server = createApiServer(rehearsal.engine, { version, log: () => undefined });
  const client = createInProcessClient({ dispatch: server.dispatch, host: "" });
  const run = async (args: readonly string[]) => {
    let said = "";
    const session = sessionWith(args, (text) => (said += text));
    const code = await main(session, () => client);
    session.exit(code);
    if (code !== 0) throw new Error(`exit code ${code}: ${said}`);
  };
  const socketPath = join(rehearsal.directory, "s"); // not longer than the daemon's own socket in the exec root
  const listening = await server.listen([`unix://${socketPath}`]);
  try {
    await run(["run", "--detach", "--name", standing, "--network", "none", "rehearsal", "sleep"]);
    await run(["create", "--name", waiting, "--network", "none", "rehearsal", "true"]);
    const tidiedAt = Math.floor(options.times * 0.75);
    for (let i = 0; i < options.times; i++) {
      if (i === tidiedAt) await tidy(socketPath);
      await run(argv(i));
      await run(["exec", standing, "true"]);
      for (let clients = 0; clients < CLIENTS_EACH; clients++) await askAsClient(socketPath);
      await quietPause(options.pauseMs, options.signal);
    }
  } finally {
    await listening.close();
  }
}

/** Ends when this process has done little in a pause: an image that is taken in right after the start needs the processor more (and V8's compiling threads are let finish). */
async function quietPause(pauseMs: number, signal: AbortSignal): Promise<void> {
  for (let isQuiet = false; !isQuiet; ) {
    const [from, usedBefore] = [performance.now(), process.cpuUsage()];
    await sleep(pauseMs, undefined, { signal, ref: false });
    const { user, system } = process.cpuUsage(usedBefore);
    isQuiet = (user + system) / 1000 <= (performance.now() - from) * BUSY_SHARE;
  }
}

/**
 * Half of what a rehearsal leaves is garbage, which V8 would keep. With the last object of a shape a collection that is asked for takes the code that was optimized
 * for it. So there are a writer, a draft of a plan and a session meanwhile, and a request is under way: what the rehearsal has made of node:http stays
 * (docs/adr/0102). Some 60 ms, once; only a collection right behind another one gives memory back.
 */
async function tidy(socketPath: string): Promise<void> {
  const collect = collector();
  const alive: unknown[] = [new Writer(1), new Draft(), sessionWith([], () => undefined), new PassThrough(), Readable.from([], { objectMode: false })];
  const keep = (request: unknown) => alive.push(request);
  subscribe("http.server.response.finish", keep);
  alive.push(await askAsClient(socketPath), await askAsClient(socketPath));
  unsubscribe("http.server.response.finish", keep);
  const request = connect(socketPath);
  request.write(asDocker("GET /v1.41/events"));
  await once(request, "data");
  collect("major");
  collect("major");
  request.destroy();
  alive.length = 0;
}

/** A request as docker's client writes it. */
const asDocker = (line: string) => `${line} HTTP/1.1\r\nHost: api.moby.localhost\r\nUser-Agent: Docker-Client/28.2.2 (linux)\r\n\r\n`;

const questions = ["HEAD /_ping", "GET /v1.41/containers/json?all=1", ...[standing, waiting].map((name) => `GET /v1.41/containers/${name}/json`)].map(asDocker);

/** What docker's client asks for `ps` and `inspect`, one after the other on a connection. */
async function askAsClient(socketPath: string): Promise<Socket> {
  const socket = connect(socketPath);
  let next = 0;
  await new Promise<void>((resolve, reject) => {
    const ask = (): void => {
      const question = questions[next++];
      if (question === undefined) resolve();
      else socket.write(question);
    };
    socket
      .on("connect", ask)
      .on("error", reject)
      .on("close", () => reject(new Error("closed")));
    socket.on("data", (answer) => {
      if (answer.toString("latin1", 0, 15) === "HTTP/1.1 200 OK") ask();
      else reject(new Error(`unexpected answer: ${answer.toString().slice(0, 1000)}`));
    });
  });
  return socket.destroy();
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
