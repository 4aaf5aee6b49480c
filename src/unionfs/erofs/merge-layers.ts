import { open, readFile, rename, rm } from "node:fs/promises";
import { setImmediate as pause } from "node:timers/promises";
import type { LayerImage } from "#linux/layer-image.ts";
import { asStorageError } from "#core/storage-error.ts";
import { isOverlayXattr, isWhiteout, opaqueXattr } from "../overlay-format.ts";
import { DEVICE_SLOT, DEVICE_TABLE_OFFSET, NULL_BLOCK, SUPER_OFFSET } from "./format.ts";
import { type ErofsNode, imageSteps } from "./image.ts";
import { readImage } from "./read-image.ts";

/** Steps of work between two pauses: about a millisecond. */
const stepsAtOnce = 200;

type Dir = ErofsNode & { kind: "dir" };

/**
 * Writes one image of what an overlay on these layers (top-most first) shows, at `path`: the contents stay in the layers' own files, which are its devices, in the order of the layers from the
 * bottom up. It is there whole, or not at all.
 * @param temporary where it is written first: a name that the next start sweeps
 */
export async function mergeLayers(layers: readonly LayerImage[], path: string, temporary: string): Promise<void> {
  const root: Dir = { kind: "dir", meta: { mode: 0o755, uid: 0, gid: 0, mtimeNs: 0n, xattrs: [] }, children: new Map() };
  const deviceBlocks: number[] = [];
  const images = await Promise.all([...layers].reverse().map(async ({ source }) => ({ source, image: await readFile(source) })));
  // Blocks of pages, when all of them have those: an older kernel knows no others.
  const blockBits = Math.min(...images.map(({ image }) => blockBitsOf(image)));
  for (const { source, image } of images) {
    const layer = await paced(readImage(image, source));
    const shift = blockBitsOf(image) - blockBits;
    await paced(layOver(root, layer, { before: deviceBlocks.length, shift }));
    deviceBlocks.push(...devicesOf(image).map((blocks) => blocks * 2 ** shift));
  }
  const bytes = await paced(imageSteps(root, { blockBits, deviceBlocks }));
  try {
    {
      await using file = await open(temporary, "w", 0o600);
      await file.writeFile(bytes);
      await file.sync();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw asStorageError(error, "writing the image of several layers");
  }
}

/** The devices of {@link mergeLayers}' image. */
export function mergedDevices(layers: readonly LayerImage[]): readonly string[] {
  return [...layers].reverse().flatMap(({ devices }) => devices);
}

/** Runs work in steps, and lets others run in between. */
async function paced<T>(work: Generator<void, T>): Promise<T> {
  for (let steps = 1; ; steps++) {
    const next = work.next();
    if (next.done === true) return next.value;
    if (steps % stepsAtOnce === 0) await pause();
  }
}

function devicesOf(image: Buffer): number[] {
  const count = image.readUInt16LE(SUPER_OFFSET + 86);
  return Array.from({ length: count }, (_, i) => image.readUInt32LE(DEVICE_TABLE_OFFSET + i * DEVICE_SLOT + 64));
}

function blockBitsOf(image: Buffer): number {
  return image.readUInt8(SUPER_OFFSET + 12);
}

/** Where the contents of a layer's files are in an image of several: behind so many devices, and its blocks are `2 ** shift` of the image's. */
export interface Placement {
  readonly before: number;
  readonly shift: number;
}

/** Changes `below` into what an overlay of `above` on it shows. */
export function* layOver(below: Dir, above: Dir, placement: Placement): Generator<void, void> {
  const moved = new Map<ErofsNode, ErofsNode>();
  const todo: [Dir, Dir][] = [[below, above]];
  for (let pair = todo.pop(); pair !== undefined; pair = todo.pop()) {
    const [target, source] = pair;
    target.meta = { ...source.meta, xattrs: source.meta.xattrs.filter(({ name }) => !isOverlayXattr(name)) };
    for (const [name, node] of source.children) {
      if (node.kind === "char" && isWhiteout({ type: "char", major: node.major, minor: node.minor })) {
        target.children.delete(name);
      } else if (node.kind === "dir") {
        const old = target.children.get(name);
        const continued = old?.kind === "dir" && !isOpaqueNode(node);
        const directory: Dir = continued ? old : { kind: "dir", meta: node.meta, children: new Map() };
        target.children.set(name, directory);
        todo.push([directory, node]);
      } else {
        const file = moved.get(node) ?? placed(node, placement);
        moved.set(node, file);
        target.children.set(name, file);
      }
    }
    yield;
  }
}

function isOpaqueNode(node: Dir): boolean {
  return node.meta.xattrs.some(({ name, value }) => name === opaqueXattr && value.length === 1 && value[0] === 0x79);
}

function placed(node: ErofsNode, { before, shift }: Placement): ErofsNode {
  if (node.kind !== "file") return node;
  const { bits, device, blocks } = node.chunks;
  const scaled = shift === 0 ? blocks : blocks.map((block) => (block === NULL_BLOCK ? NULL_BLOCK : block * 2 ** shift));
  return { ...node, chunks: { bits: bits + shift, device: device + before, blocks: scaled } };
}
