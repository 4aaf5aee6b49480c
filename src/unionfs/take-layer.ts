/** Takes a layer's archive in: as files in a tree, or as an image and the archive itself. In the daemon, or in a thread. @module */
import { copyFile, link, mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { DiffID } from "#core/digest.ts";
import { errnoOf } from "#core/errors.ts";
import type { TreeStat, WorkerTree } from "#linux/file-tree.ts";
import { type AppliedTar, applyTar } from "./apply.ts";
import { type ByteString, toBytes } from "./bytes.ts";
import type { ErofsReceiver } from "./erofs/receiver.ts";
import type { ApplyProgress } from "./mod.ts";
import { withPathBelow } from "./open-below.ts";
import { TarIndexWriter } from "./tar-index.ts";

export interface TakeOptions {
  /** The directory of the layer's record, where what its files do not tell of its archive is kept. */
  readonly record: string;
  /** lstat in the layers below. */
  readonly lower: (path: ByteString) => Promise<TreeStat | undefined>;
  /** What the archive must be; whoever calls compares, unless it is `verified`. */
  readonly expected?: DiffID | undefined;
  /** The bytes fail in their end unless they were `expected`: they need not be hashed once more. */
  readonly verified?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: ApplyProgress) => void) | undefined;
}

/** Unpacks into a tree, whose files are below `directory` for this process. */
export async function takeIntoTree(
  { tree, directory, whiteouts }: { readonly tree: WorkerTree; readonly directory: string; readonly whiteouts: "overlay" | "delete" },
  tar: AsyncIterable<Uint8Array>,
  options: TakeOptions,
): Promise<AppliedTar> {
  const index = indexIn(options.record);
  try {
    const applied = await applyTar(tar, {
      ...applyOptions(options),
      tree,
      whiteouts,
      index,
      keep: (path, number) => keepContent(directory, path, asideIn(options.record), number),
    });
    await index.finish();
    return applied;
  } catch (error) {
    await index.discard();
    throw error;
  }
}

/** For layers that are images: nothing is unpacked. Where the archive is not kept, its index is. Closes the receiver. */
export async function takeIntoImage(receiver: ErofsReceiver, tar: AsyncIterable<Uint8Array>, options: TakeOptions): Promise<AppliedTar> {
  const index = receiver.keepsArchive ? undefined : indexIn(options.record);
  try {
    const aside = asideIn(options.record);
    const keep = async (path: ByteString, number: number) => {
      await mkdir(aside, { recursive: true, mode: 0o700 });
      await receiver.superseded(toBytes(path), join(aside, String(number)));
    };
    const applied = await applyTar(tar, {
      ...applyOptions(options),
      tree: receiver.tree,
      whiteouts: "overlay",
      ...(index === undefined ? {} : { index, keep }),
    });
    await receiver.finish();
    await index?.finish();
    return applied;
  } catch (error) {
    await index?.discard();
    throw error;
  } finally {
    await receiver.close();
  }
}

function applyOptions({ lower, expected, verified, signal, onProgress }: TakeOptions) {
  return { lower, digestKnown: expected !== undefined, diffId: verified === true ? expected : undefined, signal, onProgress };
}

function indexIn(record: string): TarIndexWriter {
  return new TarIndexWriter(join(record, "tar-index.gz"));
}

function asideIn(record: string): string {
  return join(record, "superseded");
}

/** Puts the content that is about to be replaced aside: as a second name of the file, or as a copy where that is impossible, or where the layer has further names of it (they would show one link too many). */
async function keepContent(dir: string, path: ByteString, aside: string, number: number): Promise<void> {
  const target = join(aside, String(number));
  await mkdir(aside, { recursive: true, mode: 0o700 });
  await withPathBelow(dir, toBytes(path), async (source) => {
    try {
      if ((await stat(source)).nlink > 1) return await copyFile(source, target);
      await link(source, target);
    } catch (error) {
      if (errnoOf(error) !== "EXDEV" && errnoOf(error) !== "EMLINK") throw error;
      await copyFile(source, target);
    }
  });
}
