/** Commands over several names: done in parallel, names printed in their order, errors told at the end. @module */
import { any, type Call, type Command, command } from "./command.ts";
import { errorText, ExitError, hintOf } from "./errors.ts";
import type { Flag } from "./flags.ts";
import { print } from "./output.ts";

/** Throws one ExitError(1) for all failures; the others are done and printed. */
export async function forEach(
  call: Call,
  names: readonly string[],
  work: (name: string) => Promise<void>,
  printed: (name: string) => string | undefined = (name) => name,
): Promise<void> {
  const results = await Promise.allSettled(names.map(work));
  const failures: string[] = [];
  for (const [i, result] of results.entries()) {
    if (result.status === "fulfilled") {
      const line = printed(names[i]!);
      if (line !== undefined) await print(call.io, line);
      continue;
    }
    const hint = hintOf(result.reason);
    failures.push(errorText(result.reason), ...(hint === undefined ? [] : [`Hint: ${hint}`]));
  }
  if (failures.length > 0) throw new ExitError(1, failures.join("\n"));
}

/** The path of a container's route. */
export function containerPath(name: string, rest: string): string {
  return `/containers/${encodeURIComponent(name)}${rest}`;
}

/** A command that posts one request for each container and prints its name. */
export function containerVerb(options: {
  readonly about: string;
  readonly verb: string;
  readonly flags?: readonly Flag[];
  readonly examples?: Command["examples"];
  readonly query?: (call: Call) => Readonly<Record<string, string | number | undefined>>;
}): Command {
  return command({
    usage: `${options.flags === undefined ? "" : "[OPTIONS] "}CONTAINER [CONTAINER...]`,
    about: options.about,
    flags: options.flags ?? [],
    examples: options.examples ?? [],
    arity: [1, any],
    run: async (call) => {
      const query = options.query?.(call) ?? {};
      await forEach(call, call.args, (name) =>
        ignoreNotModified(call.client.json("POST", containerPath(name, `/${options.verb}`), { query, signal: call.io.gone })),
      );
      return 0;
    },
  });
}

/** 304 is success: it is already so. */
async function ignoreNotModified(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if ((error as { status?: unknown }).status !== 304) throw error;
  }
}

/** The path of an image's route; names hold slashes and colons. */
export function imagePath(name: string, rest: string): string {
  return `/images/${name.split("/").map(encodeURIComponent).join("/")}${rest}`;
}
