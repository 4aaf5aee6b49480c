/** `wherry logs`. @module */
import { type Command, command } from "./command.ts";
import { ExitError } from "./errors.ts";
import { one, onOff } from "./flags.ts";
import { demultiplex } from "./frames.ts";
import { parseMoment } from "./options/duration.ts";
import { copy } from "./output.ts";

export const logsCommand: Command = command({
  usage: "[OPTIONS] CONTAINER",
  about: "Show what a container has written",
  examples: [
    ["logs -f --tail 20 web", "the last 20 lines, then what follows"],
    ["logs --since 10m -t web", "the last ten minutes, with times"],
  ],
  flags: [
    onOff("details", "Show extra details"),
    onOff("follow,f", "Go on with what is written from now on"),
    one("since", "From this time on (2013-01-02T13:23:37Z, or 42m for 42 minutes ago)"),
    one("tail,n", "Only the last lines", { initial: "all" }),
    onOff("timestamps,t", "Show times"),
    one("until", "Up to this time"),
  ],
  arity: [1, 1],
  run: async ({ args, client, flags, io }) => {
    const moment = (name: "since" | "until") => {
      try {
        return parseMoment(flags.text(name), Date.now()) || undefined;
      } catch (error) {
        throw new ExitError(1, `invalid value for "${name}": ${(error as Error).message}`);
      }
    };
    const { body, headers } = await client.stream("GET", `/containers/${encodeURIComponent(args[0]!)}/logs`, {
      query: {
        stdout: 1,
        stderr: 1,
        follow: flags.on("follow") ? 1 : undefined,
        timestamps: flags.on("timestamps") ? 1 : undefined,
        details: flags.on("details") ? 1 : undefined,
        tail: flags.text("tail"),
        since: moment("since"),
        until: moment("until"),
      },
      signal: io.gone,
    });
    if ((headers["content-type"] ?? "").includes("multiplexed-stream")) await demultiplex(body, io.stdout, io.stderr);
    else await copy(body, io.stdout);
    return 0;
  },
});
