/** `wherry exec`. @module */
import { ApiError } from "#api/client/mod.ts";
import type { ExecInspect, WaitResult } from "#api/types/mod.ts";
import { followWindowSize, startSession } from "./attach-session.ts";
import { any, type Call, type Command, command } from "./command.ts";
import { errorText, ExitError, hintOf, isStatus } from "./errors.ts";
import { many, one, onOff } from "./flags.ts";
import { readEnv } from "./options/env.ts";
import { envEntry } from "./options/validate.ts";
import { warn } from "./output.ts";
import { codeOfText } from "./run.ts";

export const execCommand: Command = command({
  usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
  about: "Run a command in a running container",
  examples: [
    ["exec web ls /", "one command"],
    ["exec -it web sh", "a shell"],
  ],
  flags: [
    onOff("detach,d", "Run in the background"),
    one("detach-keys", "Key sequence that detaches"),
    many("env,e", "Set environment variables", { parse: envEntry }),
    many("env-file", "Read environment variables from a file"),
    onOff("interactive,i", "Keep STDIN open"),
    onOff("privileged", "Give the command all capabilities"),
    onOff("tty,t", "Allocate a terminal"),
    one("user,u", "User (name|uid[:group|gid])"),
    one("workdir,w", "Working directory"),
  ],
  interspersed: false,
  arity: [2, any],
  run,
});

async function run(call: Call): Promise<number> {
  const { args, client, flags, io } = call;
  const [container, ...cmd] = args as [string, ...string[]];
  const detach = flags.on("detach");
  const tty = flags.on("tty");
  const stdin = flags.on("interactive") && !detach;
  const env = await readEnv(flags.list("env-file"), flags.list("env"), io.cwd, io.env);
  if (stdin && tty && !io.isTty.stdin) throw new ExitError(1, "the input device is not a TTY");
  const size = tty && !detach ? io.size() : undefined;
  const consoleSize = size === undefined ? {} : { ConsoleSize: [size.rows, size.columns] };
  const { Id: id } = await client.json<{ Id: string }>("POST", `/containers/${encodeURIComponent(container)}/exec`, {
    body: {
      User: flags.text("user"),
      Privileged: flags.on("privileged"),
      Tty: tty,
      AttachStdin: stdin,
      AttachStdout: !detach,
      AttachStderr: !detach,
      DetachKeys: flags.text("detach-keys"),
      Env: env.length > 0 ? env : null,
      WorkingDir: flags.text("workdir"),
      Cmd: cmd,
      ...consoleSize,
    },
    signal: io.gone,
  });
  const start = { Detach: detach, Tty: tty, ...consoleSize };
  let ended: Promise<number> | undefined;
  try {
    if (detach) {
      await client.json("POST", `/exec/${id}/start`, { body: start, signal: io.gone });
      return 0;
    }
    if (client.direct && io.directToken !== undefined && !(tty && stdin)) {
      const streams = {
        token: io.directToken,
        stdin,
        stdout: true,
        stderr: true,
        detachKeys: new Uint8Array(0),
        rows: size?.rows ?? 0,
        columns: size?.columns ?? 0,
      };
      const started = client.json("POST", `/exec/${id}/start`, { body: start, direct: streams, signal: io.gone });
      // Asked for at once: what it takes to wait is computed while the process is made.
      ended = exitCode(call, id);
      ended.catch(() => {}); // of an exec that has not started, `started` tells
      await started;
    } else if (await attached(call, id, start)) return 1;
  } catch (error) {
    throw failure(error, detach);
  }
  const stop = tty && io.isTty.stdout ? followWindowSize(io, client, `/exec/${id}`) : () => {};
  try {
    return await (ended ?? exitCode(call, id));
  } finally {
    stop();
  }
}

/** What could not be started is 126 or 127, as the command's own code would be; in the background nobody asks for that. */
function failure(error: unknown, detach: boolean): unknown {
  if (!(error instanceof ApiError)) return error;
  const code = error.exitCode ?? codeOfText(error.message);
  const hint = hintOf(error);
  return new ExitError(detach ? 1 : code === 125 ? 126 : code, `${errorText(error)}${hint === undefined ? "" : `\nHint: ${hint}`}`);
}

/** Copies the streams to their end. True when the user detached. */
async function attached({ client, flags, io }: Call, id: string, start: { readonly Tty: boolean }): Promise<boolean> {
  const { stream, framed } = await client.hijack("POST", `/exec/${id}/start`, { body: start, signal: io.gone });
  const session = startSession({ io, stream, framed, tty: start.Tty, stdin: flags.on("interactive"), detachKeys: flags.text("detach-keys") });
  const stop = start.Tty && io.isTty.stdout ? followWindowSize(io, client, `/exec/${id}`) : () => {};
  try {
    if ((await session.done) !== "detached") return false;
    warn(io, "read escape sequence");
    return true;
  } finally {
    stop();
  }
}

async function exitCode({ client, io }: Call, id: string): Promise<number> {
  try {
    return (await client.json<WaitResult>("POST", `/wherry/exec/${id}/wait`, { signal: io.gone })).StatusCode;
  } catch (error) {
    // Another engine has no such route; there the stream's end was the exec's end.
    if (!isStatus(error, 404)) throw error;
    return (await client.json<ExecInspect>("GET", `/exec/${id}/json`, { signal: io.gone })).ExitCode ?? 0;
  }
}
