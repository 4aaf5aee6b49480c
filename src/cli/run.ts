/** `wherry run`: create, attach, start, wait. @module */
import type { WaitResult } from "#api/types/container-json.ts";
import { ApiError, ConnectionError } from "#api/client/mod.ts";
import { parseDetachKeys } from "#api/types/detach-keys.ts";
import { followWindowSize, proxySignals, type Session, startSession } from "./attach-session.ts";
import { any, type Call, type Command, command } from "./command.ts";
import { containerFlags } from "./container-flags.ts";
import { createBody, type CreateBody } from "./create-body.ts";
import { checkPullPolicy, createContainer } from "./create-container.ts";
import { errorText, ExitError, hintOf } from "./errors.ts";
import { onOff, one } from "./flags.ts";
import { BrokenPipe, warn, write } from "./output.ts";
import { exitCodeOf, waitFor } from "./wait-for.ts";

export const runCommand: Command = command({
  usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
  about: "Create and start a new container from an image",
  examples: [
    ["run --rm busybox echo hi", "run one command, then remove the container"],
    ["run -it busybox", "a shell in a new container"],
    ["run -d --name web -p 8080:80 IMAGE", "in the background, with a published port"],
    ["run --rootfs /srv/debian /bin/bash", "a directory tree instead of an image"],
    ["run --explain busybox true", "show each step that would be taken, and why; run nothing"],
  ],
  flags: [
    ...containerFlags,
    onOff("detach,d", "Run in the background and print the container's id"),
    one("detach-keys", "Key sequence that detaches"),
    onOff("sig-proxy", "Pass signals on to the process", true),
    one("wait", "With --detach: return when the container is healthy (and fail when it becomes unhealthy or ends)", { bare: "healthy", metavar: "condition" }),
    one("explain", "Print the plan of the start and run nothing (text or json)", { bare: "text", metavar: "format" }),
    one("facts", "With --explain: plan for the host that this file describes", { metavar: "file" }),
  ],
  interspersed: false,
  arity: (flags) => [flags.text("rootfs") === "" ? 1 : 0, any],
  run,
});

async function run(call: Call): Promise<number> {
  const { flags, args, io } = call;
  let body: CreateBody;
  try {
    checkPullPolicy(flags.text("pull"));
    parseDetachKeys(flags.text("detach-keys"));
    body = await createBody(flags, args, io);
  } catch (error) {
    throw failure(error, call);
  }
  if (!["", "healthy"].includes(flags.text("wait"))) throw new ExitError(125, `wherry: invalid --wait "${flags.text("wait")}": use healthy`);
  if (flags.changed("wait") && !flags.on("detach")) throw new ExitError(125, "wherry: --wait needs --detach");
  if (flags.text("explain") !== "") {
    const { explain } = await import("./explain.ts");
    try {
      return await explain(call, body);
    } catch (error) {
      throw failure(error, call);
    }
  }
  if (flags.on("detach")) {
    if (flags.list("attach").length > 0) throw new ExitError(1, "conflicting options: cannot specify both --attach and --detach");
    return runDetached(call, { ...body, AttachStdin: false, AttachStdout: false, AttachStderr: false, StdinOnce: false });
  }
  if (body.Tty && body.AttachStdin && !io.isTty.stdin) throw new ExitError(1, "the input device is not a TTY");
  return runAttached(call, body);
}

/** docker's text for a failed run, and the exit code that tells whose fault it was. */
function failure(error: unknown, { path }: Call): Error {
  if (error instanceof ExitError || error instanceof BrokenPipe) return error;
  const hint = hintOf(error);
  const text = errorText(error);
  // What is wrong on our side of the API is never the command in the container.
  const code = error instanceof ApiError ? (error.exitCode ?? codeOfText(text)) : 125;
  const help = error instanceof ConnectionError ? "" : `\n\nRun '${path} --help' for more information`;
  return new ExitError(code, `wherry: ${text}${hint === undefined ? "" : `\nHint: ${hint}`}${help}`);
}

/** As docker reads the daemon's answer. */
export function codeOfText(text: string): number {
  if (/executable file not found|no such file or directory/.test(text)) return 127;
  if (/permission denied|is a directory|exec format error/.test(text)) return 126;
  return 125;
}

async function runDetached(call: Call, body: CreateBody): Promise<number> {
  const { client, io, flags } = call;
  try {
    const id = await createContainer(call, body);
    await client.json("POST", `/containers/${id}/start`, { signal: io.gone });
    await write(io.stdout, `${id}\n`);
    if (flags.text("wait") === "healthy") return await waitHealthy(call, id);
    return 0;
  } catch (error) {
    throw failure(error, call);
  }
}

async function waitHealthy({ client, io }: Call, id: string): Promise<number> {
  const { Error: failed } = await client.json<WaitResult>("POST", `/containers/${id}/wait`, { query: { condition: "healthy" }, signal: io.gone });
  if (failed?.Message === undefined || failed.Message === "") return 0;
  warn(io, `wherry: ${failed.Message}`);
  return 1;
}

async function runAttached(call: Call, body: CreateBody): Promise<number> {
  const { client, io, flags } = call;
  const tty = body.Tty === true;
  const size = tty ? io.size() : undefined;
  if (size !== undefined) body.HostConfig.ConsoleSize = [size.rows, size.columns];
  let id: string;
  try {
    id = await createContainer(call, body);
  } catch (error) {
    throw failure(error, call);
  }
  const stops: (() => void)[] = [];
  const giveUp = new AbortController();
  stops.push(() => giveUp.abort());
  if (flags.on("sig-proxy")) stops.push(proxySignals(io, client, id));
  try {
    // An interactive terminal goes through us, because the detach keys are ours to see; everything else the monitor copies itself.
    const direct = client.direct && io.directToken !== undefined && !(tty && body.AttachStdin === true);
    const session = direct ? undefined : await attach(call, body, id);
    const outcome = await waitFor(client, id, flags.on("rm") ? "removed" : "next-exit", AbortSignal.any([giveUp.signal, io.gone]));
    outcome.result.catch(() => {}); // awaited below, unless the start fails first
    try {
      await client.json("POST", `/containers/${id}/start`, { signal: io.gone, ...(direct ? { direct: directStdio(call, body) } : {}) });
    } catch (error) {
      session?.close();
      if (flags.on("rm")) await Promise.race([outcome.result.catch(() => {}), removalGrace()]);
      throw failure(error, call);
    }
    if (tty && io.isTty.stdout) stops.push(followWindowSize(io, client, `/containers/${id}`));
    if (session !== undefined) {
      const ended = await Promise.race([session.done, outcome.result.then(() => "exited" as const)]);
      if (ended === "detached") {
        warn(io, "read escape sequence");
        return 0;
      }
      if (ended === "exited") await drain(session);
    }
    return exitCodeOf(io, await outcome.result);
  } finally {
    for (const stop of stops) stop();
  }
}

/** How long a failed `--rm` start may take to be cleaned up before we stop waiting for that. */
function removalGrace(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 5000).unref());
}

/** The process has ended: its output is nearly all here. Somebody else who holds its streams must not hold us. */
async function drain(session: Session): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, 2000);
  });
  await Promise.race([session.done, late]);
  clearTimeout(timer);
  session.close();
}

async function attach({ client, io, flags }: Call, body: CreateBody, id: string): Promise<Session> {
  const { stream, framed } = await client.hijack("POST", `/containers/${id}/attach`, {
    query: {
      stream: 1,
      stdin: body.AttachStdin ? 1 : 0,
      stdout: body.AttachStdout ? 1 : 0,
      stderr: body.AttachStderr ? 1 : 0,
      detachKeys: flags.text("detach-keys") || undefined,
    },
    signal: io.gone,
  });
  return startSession({ io, stream, framed, tty: body.Tty === true, stdin: body.AttachStdin === true, detachKeys: flags.text("detach-keys") });
}

function directStdio({ io }: Call, body: CreateBody): unknown {
  const size = io.size();
  return {
    token: io.directToken,
    stdin: body.AttachStdin === true,
    stdout: body.AttachStdout === true,
    stderr: body.AttachStderr === true,
    detachKeys: new Uint8Array(0),
    rows: size?.rows ?? 0,
    columns: size?.columns ?? 0,
  };
}
