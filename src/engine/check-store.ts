/** `system check`: everything on disk that an image, a container or a volume should have, and everything that nobody has. @module */
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { type BlobDigest, type ChainID, type Digest, hexOf } from "#core/digest.ts";
import { errnoOf, isEngineError } from "#core/errors.ts";
import { parseMountinfo } from "#linux/mountinfo.ts";
import type { EngineContext } from "./context.ts";

/** What is wrong with one thing. */
export interface StoreProblem {
  /** "damaged": content is not what its digest says, or is missing. "orphan": nobody needs it. */
  readonly kind: "damaged" | "orphan";
  /** What it is: "layer sha256:…", "blob …", "snapshot …", "cgroup …", "mount …". */
  readonly what: string;
  readonly why: string;
  readonly repaired: boolean;
}

/**
 * Verifies digests of configs and of every layer (all of their bytes are read), that chains are whole, and that there is nothing without an owner. `repair`: orphans that are
 * ten minutes old are removed; what is damaged is told only, because the one thing to do is to load it again.
 */
export async function checkStore(
  ctx: EngineContext,
  options: { readonly repair: boolean; readonly onProgress?: (what: string) => void; readonly signal?: AbortSignal },
): Promise<StoreProblem[]> {
  const damaged = await findDamage(ctx, options);
  const orphans = await findOrphans(ctx);
  if (!options.repair) return [...damaged, ...orphans.map(({ problem }) => problem)];
  for (const { remove } of orphans) await remove?.();
  await ctx.layers.driver.idle();
  const left = new Set((await findOrphans(ctx)).map(({ problem: { what } }) => what));
  return [...damaged, ...orphans.map(({ problem }) => ({ ...problem, repaired: !left.has(problem.what) }))];
}

/** An orphan and how it goes; undefined: not by wherry. */
interface Orphan {
  readonly problem: StoreProblem;
  readonly remove: (() => Promise<unknown>) | undefined;
}

/** What is younger may be about to be somebody's: containers and images are recorded after their files are made. */
const oldMs = 10 * 60_000;

type Options = Parameters<typeof checkStore>[1];

async function findDamage({ content, images, layers }: EngineContext, { onProgress, signal }: Options): Promise<StoreProblem[]> {
  const problems: StoreProblem[] = [];
  const check = async (what: string, work: () => Promise<unknown>) => {
    signal?.throwIfAborted();
    onProgress?.(what);
    try {
      await work();
    } catch (error) {
      if (!isEngineError(error)) throw error;
      problems.push({ kind: "damaged", what, why: error.message, repaired: false });
    }
  };
  const seen = new Set<ChainID>();
  for (const { id, why } of await images.damaged()) problems.push({ kind: "damaged", what: `image ${id}`, why, repaired: false });
  for (const { id, chainIds } of await images.list()) {
    await check(`image ${id}`, () => content.read(asBlob(id)));
    for (const chain of chainIds) {
      if (seen.has(chain)) continue;
      seen.add(chain);
      await check(`layer ${chain}`, async () => {
        for await (const _ of await layers.tar(chain)) signal?.throwIfAborted();
      });
    }
  }
  return problems;
}

/** A config is a blob of the same digest. */
function asBlob(digest: Digest): BlobDigest {
  return digest;
}

async function findOrphans(ctx: EngineContext): Promise<Orphan[]> {
  const { dataRoot } = ctx.options;
  const { driver } = ctx.layers;
  const found: Orphan[] = [];
  const orphan = (what: string, why: string, remove?: () => Promise<unknown>) =>
    found.push({ problem: { kind: "orphan", what, why, repaired: false }, remove });
  const images = await ctx.images.list();
  const { layers, active } = await driver.list();
  const recorded = [...images.map(({ id }) => id), ...(await ctx.images.elsewhere())];
  const configs = new Set<string>(recorded);
  const containers = [...ctx.registry.all()];
  // Which layers and blobs a damaged image needs cannot be told, nor those of a container whose image was taken away by force: then none is an orphan.
  if ((await ctx.images.damaged()).length === 0 && containers.every(({ record: { imageId } }) => imageId === "" || configs.has(imageId))) {
    const needed = new Set<ChainID>(images.flatMap(({ chainIds }) => chainIds));
    for (const chain of layers) {
      if (!needed.has(chain) && (await isOld(join(dataRoot, driver.name, hexOf(chain)))))
        orphan(`layer ${chain}`, "no image or container needs it", () => ctx.images.sweep());
    }
    const manifests = new Set<Digest>((await Promise.all(recorded.map((id) => ctx.images.origins(id)))).flat().map(({ digest }) => digest));
    for await (const digest of ctx.content.list()) {
      if (!configs.has(digest) && !manifests.has(digest) && (await isOld(join(dataRoot, "content/blobs/sha256", hexOf(digest)))))
        orphan(`blob ${digest}`, "it is no image's configuration or manifest", () => ctx.content.remove(digest));
    }
  }
  const snapshots = new Set(containers.map(({ record }) => record.snapshot));
  for (const key of active) {
    // Layers in the making are the layer store's.
    if (!snapshots.has(key) && !key.startsWith("apply-") && (await isOld(join(dataRoot, driver.name, key))))
      orphan(`snapshot ${key}`, "no container has it", () => driver.remove(key));
  }
  const ids = new Set(containers.map(({ id }) => id));
  for (const name of await strangers(join(dataRoot, "containers"), ids))
    orphan(`container directory ${name}`, "there is no such container", () => ctx.records.discard(name).then(() => ctx.records.emptyTrash()));
  for (const name of await strangers(join(dataRoot, "volumes"), new Set(ctx.volumes.list().map(({ Name }) => Name))))
    orphan(`volume directory ${name}`, "there is no such volume", () => ctx.volumes.sweep());
  for (const paths of await ctx.cgroups.orphans(ids)) {
    orphan(`cgroup ${JSON.stringify(paths)}`, "its container is gone", async () => {
      await ctx.cgroups.kill(paths);
      await ctx.cgroups.remove(paths);
    });
  }
  const mounts = parseMountinfo(await readFile("/proc/self/mountinfo", "utf8"));
  for (const { mountPoint } of mounts)
    if (mountPoint.startsWith(`${dataRoot}/${driver.name}/`)) orphan(`mount ${mountPoint}`, "wherry mounts nothing there: unmount it");
  return found;
}

/** Directories that nobody knows; trash does not count, it goes by itself. */
async function strangers(directory: string, known: ReadonlySet<string>): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory() && !known.has(entry.name) && !/^\.?trash$/.test(entry.name)).map(({ name }) => name);
  const old = await Promise.all(names.map((name) => isOld(join(directory, name))));
  return names.filter((_, i) => old[i]);
}

async function isOld(path: string): Promise<boolean> {
  try {
    return Date.now() - (await stat(path)).mtimeMs > oldMs;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return false;
    throw error;
  }
}
