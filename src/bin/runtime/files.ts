/** Files that the runtime makes for its caller. @module */
import { renameSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/** Written whole: a reader sees all digits or no file. */
export function writePidFile(path: string | undefined, pid: number): void {
  if (path === undefined || path === "") return;
  const temporary = join(dirname(path), `.${basename(path)}`);
  writeFileSync(temporary, String(pid), { mode: 0o666 });
  renameSync(temporary, path);
}
