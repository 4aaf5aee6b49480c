/**
 * Starts a program of the package: one file with all that it needs, whose code V8 has compiled in an earlier run. Reading and compiling two megabytes of
 * JavaScript anew would take 150 of the 400 ms in which a daemon has to answer, and as long in each thread. Figures: docs/adr/0098.
 *
 * What V8 compiled is kept beside the programs by the first run that finds nothing kept, under a name that says which file, which V8 and which of its flags
 * it is of. Where nothing can be written each start compiles anew; nothing else changes.
 * @module
 * @see https://nodejs.org/docs/latest-v20.x/api/vm.html#scriptcreatecacheddata
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { cachedDataVersionTag, setFlagsFromString } from "node:v8";
import { Script } from "node:vm";
import { threadId } from "node:worker_threads";

/** A program that goes on for longer keeps what it has run until then. A thread that is ended says nothing. */
const START_MS = 3000;

/** What a program's file is: a function around a bundle (scripts/build.mjs). `url` stands for the program in `dist`. */
type Program = (exports: object, require: NodeJS.Require, module: { exports: object }, url: string) => void;

/**
 * @param entry the program's entry, in `dist`
 * @param file its bundle, seen from there; the name changes with every byte of it (V8 looks at the length only)
 * @param stays a process that goes on for long: V8 then learns of a function from its first call on. It waits for eight by default, which a command that runs
 *   once now and then takes many runs to reach (docs/adr/0040).
 * @throws Error the file is missing
 */
export function loadProgram(entry: string, file: string, { stays = false }: { readonly stays?: boolean } = {}): void {
  // Before anything is compiled; and what is kept is of these flags.
  if (stays) setFlagsFromString("--no-lazy-feedback-allocation");
  const filename = join(dirname(entry), file);
  const kept = join(dirname(entry), "compiled", `${basename(file)}.${cachedDataVersionTag().toString(16)}`);
  const cachedData = readIfThere(kept);
  // One byte for a character: esbuild writes nothing but ASCII.
  const script = new Script(readFileSync(filename, "latin1"), { filename, ...(cachedData === undefined ? {} : { cachedData }) });
  if (cachedData === undefined || script.cachedDataRejected === true) {
    let done = false;
    const keep = () => {
      if (!done) write(kept, script.createCachedData());
      done = true;
    };
    setTimeout(keep, START_MS).unref();
    process.once("exit", keep);
  }
  const module = { exports: {} };
  (script.runInThisContext() as Program)(module.exports, createRequire(entry), module, pathToFileURL(entry).href);
}

function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined; // not there, or not for this user: the code is compiled
  }
}

/** Whole or not at all, after a loss of power too: V8 believes what it reads. */
function write(path: string, data: Buffer): void {
  const fresh = `${path}.${process.pid}.${threadId}`;
  try {
    mkdirSync(dirname(path), { recursive: true });
    const fd = openSync(fresh, "wx", 0o644);
    try {
      for (let at = 0; at < data.length; ) at += writeSync(fd, data, at);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(fresh, path);
  } catch {
    // A package that this user may not write to, a full disk: the next start compiles anew, which is no error of what the user wanted.
  }
}
