import { mkdtemp, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { EngineError } from "#core/errors.ts";
import type { FileTree } from "#linux/file-tree.ts";
import { bootstrapBusybox } from "./bootstrap/busybox.ts";
import { bootstrapDebian } from "./bootstrap/debian.ts";
import type { Image, ImageStore } from "./mod.ts";

const defaultSuite = "bookworm";
const prefix = "bootstrap-";
/** Directories that are in use by this process. */
const working = new Set<string>();

export interface BootstrapOptions {
  readonly store: ImageStore;
  /** `busybox`, `debian` or `debian:SUITE`. */
  readonly what: string;
  /** An existing directory of this data root alone; what is made in it is removed again. A Debian needs some 400 MB, and a filesystem that allows device nodes and programs. */
  readonly workDir: string;
  /** For reading the tree of a Debian: `helper.openTree`. */
  readonly openTree: (root: string) => Promise<FileTree>;
  /** A line at a time. */
  readonly onProgress: (line: string) => void;
  readonly signal?: AbortSignal;
}

/** Makes a base image out of the host's Debian packages. */
export async function bootstrapImage({ store, what, workDir, openTree, onProgress, signal }: BootstrapOptions): Promise<Image> {
  const [name, suite] = splitName(what);
  await sweep(workDir);
  const directory = await mkdtemp(join(workDir, prefix));
  working.add(directory);
  const options = { onLine: onProgress, signal };
  try {
    return name === "busybox" ? await bootstrapBusybox(store, directory, options) : await bootstrapDebian(store, suite, directory, openTree, options);
  } finally {
    await rm(directory, { recursive: true, force: true });
    working.delete(directory);
  }
}

/** Removes what a crash has left of earlier ones. */
async function sweep(workDir: string): Promise<void> {
  for (const name of await readdir(workDir)) {
    const path = join(workDir, name);
    if (name.startsWith(prefix) && !working.has(path)) await rm(path, { recursive: true, force: true });
  }
}

function splitName(what: string): readonly ["busybox" | "debian", string] {
  const match = /^(busybox|debian)(?::([a-z0-9][a-z0-9.-]*))?$/.exec(what);
  if (match === null || (match[1] === "busybox" && match[2] !== undefined && match[2] !== "latest")) {
    throw new EngineError("invalid", `cannot bootstrap "${what.slice(0, 100)}": busybox, debian and debian:SUITE are what there is`);
  }
  return [match[1] === "busybox" ? "busybox" : "debian", match[2] ?? defaultSuite];
}
