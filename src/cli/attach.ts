/** `wherry attach`. @module */
import type { ContainerInspect } from "#api/types/mod.ts";
import { followWindowSize, proxySignals, startSession } from "./attach-session.ts";
import { type Command, command } from "./command.ts";
import { containerPath } from "./each.ts";
import { ExitError } from "./errors.ts";
import { one, onOff } from "./flags.ts";
import { exitCodeOf, waitFor } from "./wait-for.ts";

export const attachCommand: Command = command({
  usage: "[OPTIONS] CONTAINER",
  about: "Attach this terminal to a running container",
  examples: [["attach box", "ctrl-p ctrl-q detaches again, if it has a terminal"]],
  flags: [
    one("detach-keys", "Key sequence that detaches"),
    onOff("no-stdin", "Do not attach STDIN"),
    onOff("sig-proxy", "Pass signals on to the process", true),
  ],
  arity: [1, 1],
  run: async ({ args, client, flags, io }) => {
    const container = await client.json<ContainerInspect>("GET", containerPath(args[0]!, "/json"), { signal: io.gone });
    const { State: state, Id: id } = container;
    if (!state.Running) throw new ExitError(1, "You cannot attach to a stopped container, start it first");
    if (state.Paused) throw new ExitError(1, "You cannot attach to a paused container, unpause it first");
    if (state.Restarting) throw new ExitError(1, "You cannot attach to a restarting container, wait until it is running");
    const tty = container.Config.Tty;
    const stdin = !flags.on("no-stdin") && container.Config.OpenStdin;
    if (stdin && tty && !io.isTty.stdin) throw new ExitError(1, "the input device is not a TTY");
    const giveUp = new AbortController();
    const stops: (() => void)[] = [() => giveUp.abort()];
    const { result } = await waitFor(client, id, "not-running", AbortSignal.any([giveUp.signal, io.gone]));
    result.catch(() => {}); // awaited below, unless attaching fails first
    if (flags.on("sig-proxy") && !tty) stops.push(proxySignals(io, client, id));
    try {
      const { stream, framed } = await client.hijack("POST", containerPath(id, "/attach"), {
        query: { stream: 1, stdin: stdin ? 1 : 0, stdout: 1, stderr: 1, detachKeys: flags.text("detach-keys") || undefined },
        signal: io.gone,
      });
      const session = startSession({ io, stream, framed, tty, stdin, detachKeys: flags.text("detach-keys") });
      if (tty && io.isTty.stdout) stops.push(followWindowSize(io, client, containerPath(id, "")));
      if ((await session.done) === "detached") throw new ExitError(1, "read escape sequence");
      return exitCodeOf(io, await result);
    } finally {
      for (const stop of stops) stop();
    }
  },
});
