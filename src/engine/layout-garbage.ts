/**
 * Old blobs of a directory with an OCI layout into which builds put their caches: what its index does not lead to goes. Others may write there meanwhile (another build, another engine):
 * each says so by a file in `ingest/` while it does, and no blob goes that is not older than all of them. Times are compared among files of the one filesystem, and are ctimes, which nobody
 * can set: copying a cache from elsewhere makes nothing older.
 * @module
 */
import { randomBytes } from "node:crypto";
import { lstat, open, readdir, rename, rm, utimes } from "node:fs/promises";
import { join } from "node:path";
import { type Digest, hexOf, isDigest } from "#core/digest.ts";
import { errnoOf, isEngineError } from "#core/errors.ts";
import { parseManifest } from "#core/manifest.ts";
import { asStorageError } from "#core/storage-error.ts";

const runName = /^run-[0-9a-f]{16}$/;
/** What a blob is called before it has come whole, and after it has been taken away. */
const leftoverName = /^(old-)?[0-9a-f]{24}$/;
/** Who has not ended after that has crashed. ns. */
const dayNs = 24n * 3_600_000_000_000n;

/** One writer at work. Disposing says that it has ended. */
export class LayoutRun implements AsyncDisposable {
  readonly path: string;
  readonly #root: string;

  private constructor(root: string) {
    this.#root = root;
    this.path = join(root, "ingest", `run-${randomBytes(8).toString("hex")}`);
  }

  /** `root`: of the layout, whose directories are there. */
  static async begin(root: string): Promise<LayoutRun> {
    const run = new LayoutRun(root);
    try {
      await using _file = await open(run.path, "wx", 0o600);
    } catch (error) {
      throw asStorageError(error, `writing ${run.path}`);
    }
    return run;
  }

  /** Makes a blob, where it is there, as young as if this run had written it. */
  async keep(digest: Digest): Promise<void> {
    const now = new Date();
    await utimes(blobPath(this.#root, digest), now, now).catch((error: unknown) => {
      if (errnoOf(error) !== "ENOENT") throw asStorageError(error, `keeping the blob ${digest} in ${this.#root}`);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { force: true });
  }
}

export interface LayoutContent {
  /** What the index names; undefined: an entry that names nothing. */
  named(): Promise<readonly (Digest | undefined)[]>;
  /** A manifest, verified. */
  read(digest: Digest): Promise<Uint8Array>;
}

/** Removes what no manifest of the index leads to. Where one of them is none that is understood, nothing: it may lead anywhere. */
export async function collectLayout(root: string, run: LayoutRun, content: LayoutContent, staleNs: bigint = dayNs): Promise<void> {
  try {
    const before = await oldestRun(root, run, staleNs);
    const live = await reachable(content);
    if (live === undefined) return;
    const blobs = join(root, "blobs/sha256");
    for (const name of await readdir(blobs)) {
      const digest = `sha256:${name}`;
      if (isDigest(digest) && !live.has(digest)) await removeIfOlder(root, digest, before);
    }
    // Begun, and never finished.
    const ingest = join(root, "ingest");
    for (const name of await readdir(ingest)) {
      const path = join(ingest, name);
      if (leftoverName.test(name) && ((await timesOf(path))?.ctimeNs ?? before) < before) await rm(path, { force: true });
    }
  } catch (error) {
    throw asStorageError(error, `removing old blobs from ${root}`);
  }
}

/** When the first of those began that are at work, this one included; ns. 0: a program that does not say when (containerd's and buildx's directories). */
async function oldestRun(root: string, run: LayoutRun, staleNs: bigint): Promise<bigint> {
  const own = (await timesOf(run.path))?.ctimeNs ?? 0n; // gone: nothing is older
  let oldest = own;
  for (const name of await readdir(join(root, "ingest"))) {
    if (leftoverName.test(name)) continue;
    const path = join(root, "ingest", name);
    const began = (await timesOf(path))?.ctimeNs;
    if (began === undefined) continue;
    const isOurs = runName.test(name);
    if (own - began <= staleNs) oldest = !isOurs ? 0n : began < oldest ? began : oldest;
    else if (isOurs) await rm(path, { force: true });
  }
  return oldest;
}

/** undefined: something there is not understood. */
async function reachable({ named, read }: LayoutContent): Promise<Set<Digest> | undefined> {
  const live = new Set<Digest>();
  const pending = [...(await named())];
  while (pending.length > 0) {
    const digest = pending.pop();
    if (digest === undefined) return undefined;
    if (live.has(digest)) continue;
    live.add(digest);
    try {
      const parsed = parseManifest(await read(digest), undefined, `manifest ${digest}`);
      if (parsed.kind === "index") pending.push(...parsed.manifests.map((manifest) => manifest.digest));
      else for (const blob of [parsed.config, ...parsed.layers]) live.add(blob.digest);
    } catch (error) {
      // An index may name what is not there (another platform's).
      if (isEngineError(error, "not-found")) continue;
      if (isEngineError(error, "corrupt") || isEngineError(error, "unsupported") || isEngineError(error, "invalid")) return undefined;
      throw error;
    }
  }
  return live;
}

/** By way of another name: who wants to keep it at this moment finds it gone, or has made it younger before, which is seen then. */
async function removeIfOlder(root: string, digest: Digest, beforeNs: bigint): Promise<void> {
  const path = blobPath(root, digest);
  const old = await timesOf(path);
  if (old === undefined || old.ctimeNs >= beforeNs) return;
  const away = join(root, "ingest", `old-${randomBytes(12).toString("hex")}`);
  try {
    await rename(path, away);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return;
    throw error;
  }
  const now = await timesOf(away);
  if (now !== undefined && now.mtimeNs !== old.mtimeNs) await rename(away, path);
  else await rm(away, { force: true });
}

async function timesOf(path: string): Promise<{ readonly ctimeNs: bigint; readonly mtimeNs: bigint } | undefined> {
  try {
    return await lstat(path, { bigint: true });
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

function blobPath(root: string, digest: Digest): string {
  return join(root, "blobs/sha256", hexOf(digest));
}
