import { mkdir, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { BuildCache } from "#build/cache/build-cache.ts";
import { CacheMounts } from "#build/solver/cache-mounts.ts";
import { KnownStates } from "#build/solver/known-states.ts";
import { SentDirectories } from "#build/solver/sent-files.ts";
import type { ImageStore } from "#image/mod.ts";
import type { EngineOptions } from "./mod.ts";

/** What builds leave behind for later ones, and where they work. */
export interface BuildState {
  readonly cache: BuildCache;
  readonly mounts: CacheMounts;
  readonly sent: SentDirectories;
  /** Of contexts and chains of layers. */
  readonly known: KnownStates;
  /** Containers of steps under way: no prune takes one between its end and its layer. */
  readonly steps: Set<string>;
  /** On the data root's filesystem. Emptied at each start of the engine. */
  readonly workDir: string;
  /** On the exec root. Emptied at each start. */
  readonly runtimeDir: string;
}

export async function openBuilds({
  dataRoot,
  execRoot,
  images,
  log,
  budgetBytes,
}: Pick<EngineOptions, "dataRoot" | "execRoot" | "log"> & { readonly images: ImageStore; readonly budgetBytes: number | undefined }): Promise<BuildState> {
  const root = join(dataRoot, "build");
  const [workDir, runtimeDir] = [join(root, "work"), join(execRoot, "build")];
  for (const directory of [workDir, runtimeDir]) {
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { recursive: true, mode: 0o700 });
  }
  const { blocks, bsize } = await statfs(root);
  const budget = budgetBytes ?? Math.floor((blocks * bsize) / 10);
  const known = new KnownStates();
  const cache = await BuildCache.open({
    root: join(root, "cache"),
    log,
    budgetBytes: budget,
    collect: () => images.collect(),
  });
  images.keep(() => cache.chains());
  return {
    cache,
    mounts: await CacheMounts.open(join(root, "mounts"), join(root, "scratch")),
    sent: new SentDirectories(join(root, "sent"), budget, known),
    known,
    steps: new Set(),
    workDir,
    runtimeDir,
  };
}
