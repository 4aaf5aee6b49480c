/** `--env`, `--env-file`, `--label-file`. @module */
import { isUtf8 } from "node:buffer";
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { explainFileError } from "./file-error.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** `NAME` alone takes the caller's value; unknown names are sent bare, which unsets them. */
export function completeEnv(entries: readonly string[], environment: Environment): string[] {
  return entries.map((entry) => (entry.includes("=") || environment[entry] === undefined ? entry : `${entry}=${environment[entry]}`));
}

/** Entries of a file: one a line, `#` comments, no quoting. With an environment, bare names take its value or are left out; without (labels) they stay. */
async function readEntries(path: string, cwd: string, environment: Environment | undefined): Promise<string[]> {
  try {
    return linesOf(await readFile(resolve(cwd, path)), environment);
  } catch (error) {
    const reading = (error as NodeJS.ErrnoException).code === "EISDIR" ? "read" : "open";
    const { message } = explainFileError(error, reading, path);
    // What cannot be opened says so itself.
    throw new Error(message.startsWith("open ") ? message : `invalid env file (${path}): ${message}`, { cause: error });
  }
}

function linesOf(bytes: Buffer, environment: Environment | undefined): string[] {
  const entries: string[] = [];
  const lines = bytes.toString("latin1").split("\n");
  const wrong = lines.findIndex((line) => !isUtf8(Buffer.from(line, "latin1")));
  if (wrong >= 0) throw new Error(`invalid utf8 bytes at line ${wrong + 1}: [${[...Buffer.from(lines[wrong]!, "latin1")].join(" ")}]`);
  for (const raw of bytes.toString("utf8").split(/\r?\n/)) {
    const line = raw.trimStart();
    if (line === "" || line.startsWith("#")) continue;
    const equals = line.indexOf("=");
    const name = equals < 0 ? line : line.slice(0, equals);
    if (name === "") throw new Error(`no variable name on line '${line}'`);
    if (/[ \t]/.test(equals < 0 ? name.trimEnd() : name)) throw new Error(`variable '${name}' contains whitespaces`);
    if (equals >= 0) entries.push(line);
    else if (environment === undefined) entries.push(line.trimEnd());
    else if (environment[name.trimEnd()] !== undefined) entries.push(`${name.trimEnd()}=${environment[name.trimEnd()]}`);
  }
  return entries;
}

/** Files first, then the flags, so that flags win. */
export async function readEnv(files: readonly string[], entries: readonly string[], cwd: string, environment: Environment): Promise<string[]> {
  const fromFiles = await Promise.all(files.map((file) => readEntries(file, cwd, environment)));
  return [...fromFiles.flat(), ...completeEnv(entries, environment)];
}

export async function readLabels(files: readonly string[], entries: readonly string[], cwd: string): Promise<string[]> {
  const fromFiles = await Promise.all(files.map((file) => readEntries(file, cwd, undefined)));
  return [...fromFiles.flat(), ...entries];
}
