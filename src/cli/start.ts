/** `wherry start`. @module */
import type { ContainerInspect } from "#api/types/mod.ts";
import { followWindowSize, proxySignals, startSession } from "./attach-session.ts";
import { any, type Call, type Command, command } from "./command.ts";
import { containerPath } from "./each.ts";
import { errorText, ExitError, hintOf, isStatus } from "./errors.ts";
import { one, onOff } from "./flags.ts";
import { print, warn } from "./output.ts";
import { exitCodeOf, waitFor } from "./wait-for.ts";

export const startCommand: Command = command({
  usage: "[OPTIONS] CONTAINER [CONTAINER...]",
  about: "Start stopped containers",
  examples: [["start -ai box", "start it with this terminal attached"]],
  flags: [
    onOff("attach,a", "Attach output, pass signals on, exit with its code"),
    one("checkpoint", "Not supported: refused", { hidden: true }),
    one("checkpoint-dir", "Not supported: refused", { hidden: true }),
    one("detach-keys", "Key sequence that detaches"),
    onOff("interactive,i", "Attach input too"),
  ],
  arity: [1, any],
  run: async (call) => {
    const { args, flags } = call;
    if (flags.text("checkpoint") !== "") throw new ExitError(1, "wherry: checkpoints are not supported");
    if (!flags.on("attach") && !flags.on("interactive")) return startAll(call);
    if (args.length > 1) throw new ExitError(1, "you cannot start and attach multiple containers at once");
    return startAttached(call, args[0]!);
  },
});

async function startAll({ args, client, io }: Call): Promise<number> {
  const failed: string[] = [];
  for (const name of args) {
    try {
      await client.json("POST", containerPath(name, "/start"), { signal: io.gone });
    } catch (error) {
      if (!isStatus(error, 304)) {
        const hint = hintOf(error);
        warn(io, `${errorText(error)}${hint === undefined ? "" : `\nHint: ${hint}`}`);
        failed.push(name);
        continue;
      }
    }
    await print(io, name);
  }
  if (failed.length > 0) throw new ExitError(1, `Error: failed to start containers: ${failed.join(", ")}`);
  return 0;
}

async function startAttached({ client, flags, io }: Call, name: string): Promise<number> {
  const container = await client.json<ContainerInspect>("GET", containerPath(name, "/json"), { signal: io.gone });
  const id = container.Id;
  const tty = container.Config.Tty;
  const stdin = flags.on("interactive") && container.Config.OpenStdin;
  if (stdin && tty && !io.isTty.stdin) throw new ExitError(1, "the input device is not a TTY");
  const stops: (() => void)[] = [];
  if (!tty) stops.push(proxySignals(io, client, id));
  const giveUp = new AbortController();
  stops.push(() => giveUp.abort());
  try {
    const { stream, framed } = await client.hijack("POST", containerPath(id, "/attach"), {
      query: { stream: 1, stdin: stdin ? 1 : 0, stdout: 1, stderr: 1, detachKeys: flags.text("detach-keys") || undefined },
      signal: io.gone,
    });
    const session = startSession({ io, stream, framed, tty, stdin, detachKeys: flags.text("detach-keys") });
    session.done.catch(() => {}); // awaited below, unless the start fails first
    const { result } = await waitFor(client, id, container.HostConfig.AutoRemove ? "removed" : "next-exit", AbortSignal.any([giveUp.signal, io.gone]));
    result.catch(() => {});
    try {
      await client.json("POST", containerPath(id, "/start"), { signal: io.gone });
    } catch (error) {
      session.close();
      if (!isStatus(error, 304)) throw error;
    }
    if (tty && io.isTty.stdout) stops.push(followWindowSize(io, client, containerPath(id, "")));
    if ((await session.done) === "detached") {
      warn(io, "read escape sequence");
      return 0;
    }
    return exitCodeOf(io, await result);
  } finally {
    for (const stop of stops) stop();
  }
}
