/** `build --debug-shell`: what a failed step has left, to look at. @module */
import { randomBytes } from "node:crypto";
import { ApiError } from "#api/client/mod.ts";
import type { BuildEventJson } from "#api/types/build-json.ts";
import type { Call } from "./command.ts";
import { parseFlags } from "./flags.ts";
import { write } from "./output.ts";

export type Left = Extract<BuildEventJson, { readonly kind: "left" }>;

/** On a terminal: a shell in what the first has left, and then all of it goes. Elsewhere: how to get one, and what to remove. */
export async function offerShell(call: Call, left: readonly Left[], error: string): Promise<void> {
  const { io, client } = call;
  const [first] = left;
  if (first === undefined) return;
  if (!io.isTty.stdin || !io.isTty.stdout) {
    for (const one of left) await write(io.stderr, howTo(one));
    return;
  }
  const name = `build-shell-${randomBytes(6).toString("hex")}`;
  let stop: () => void = () => undefined;
  const hungUp = new Promise<void>((resolve) => {
    io.gone.addEventListener("abort", () => resolve(), { once: true });
    stop = io.onSignal((signal) => {
      if (signal === "SIGHUP") resolve();
    });
  });
  try {
    await write(io.stderr, `${error}\nA shell in what "${first.step.text}" has left, without the step's mounts. When it ends, all of it is removed.\n`);
    // Values of build arguments go to the shell, and into no image.
    const env = first.env.flatMap((pair) => ["--env", pair]);
    const { runCommand } = await import("./run.ts");
    const { values, args } = parseFlags(runCommand.flags, ["--rm", "-it", "--name", name, ...env, ...options(first)], false);
    await Promise.race([runCommand.run({ io, client, flags: values, args, path: "wherry run" }), hungUp]);
  } finally {
    stop();
    // A shell whose terminal has gone would live on.
    await client.json("DELETE", `/containers/${name}`, { query: { force: 1 } }).catch((error: unknown) => {
      if (!(error instanceof ApiError && error.status === 404)) throw error;
    });
    for (const { image } of left) await client.json("DELETE", `/images/${image}`, { query: { force: 1 } });
  }
}

function options({ network, shell, image }: Left): string[] {
  return [...(network === "default" ? [] : ["--network", network]), "--entrypoint", shell, image];
}

function howTo(left: Left): string {
  return [
    `What "${left.step.text}" has left is the image ${left.image}, without the step's mounts. A shell in it, and away with it:`,
    `    wherry run --rm -it ${options(left).join(" ")}`,
    `    wherry rmi ${left.image}`,
    "",
  ].join("\n");
}
