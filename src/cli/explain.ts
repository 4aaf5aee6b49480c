/** `wherry run --explain`: the plan as text or JSON. @module */
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import type { Call } from "./command.ts";
import type { CreateBody } from "./create-body.ts";
import { ExitError } from "./errors.ts";
import { explainFileError } from "./options/file-error.ts";
import { copy } from "./output.ts";

/** Prints what `start` would do. Exit code 0. */
export async function explain({ client, flags, io }: Call, body: CreateBody): Promise<number> {
  const format = flags.text("explain");
  if (format !== "text" && format !== "json") throw new ExitError(125, `wherry: invalid --explain format "${format}": use text or json`);
  const file = flags.text("facts");
  const facts = file === "" ? undefined : await readFacts(resolve(io.cwd, file), file);
  const { body: text } = await client.stream("POST", "/wherry/explain", {
    query: { format },
    body: facts === undefined ? body : { ...body, facts },
    signal: io.gone,
  });
  await copy(text, io.stdout);
  return 0;
}

async function readFacts(path: string, name: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw new ExitError(125, `wherry: ${explainFileError(error, "open", name).message}`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ExitError(125, `wherry: ${name} is not a facts file: ${(error as Error).message}`);
  }
}
