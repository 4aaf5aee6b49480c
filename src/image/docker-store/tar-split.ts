import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { createGunzip } from "node:zlib";
import { EngineError, isEngineError } from "#core/errors.ts";
import { isObject, parseJson } from "#core/json.ts";
import type { FileTree } from "#linux/file-tree.ts";

/** Of an archive that docker has unpacked: bytes as they were, or a file's content, which lies in the layer's tree. */
type Entry = { readonly kind: "bytes"; readonly bytes: Uint8Array } | { readonly kind: "file"; readonly path: Buffer; readonly size: number };

const fileType = 1;
const segmentType = 2;

/** tar-split.json.gz: a JSON object a line. @see https://github.com/vbatts/tar-split, tar/storage */
async function* entries(file: string): AsyncGenerator<Entry> {
  const source = createReadStream(file);
  const text = source.pipe(createGunzip());
  // An error of the file is one of the text, too.
  source.once("error", (error) => text.destroy(error));
  for await (const line of createInterface({ input: text, crlfDelay: Number.POSITIVE_INFINITY })) {
    if (line === "") continue;
    const entry = parse(line, file);
    if (entry !== undefined) yield entry;
  }
}

function parse(line: string, file: string): Entry | undefined {
  const entry = parseJson(Buffer.from(line), file);
  if (!isObject(entry)) throw new EngineError("corrupt", `${file}: an entry is no object`);
  const { type, name, name_raw, size, payload } = entry;
  if (type === segmentType && typeof payload === "string") return { kind: "bytes", bytes: Buffer.from(payload, "base64") };
  if (type !== fileType) throw new EngineError("corrupt", `${file}: an entry of the unknown type ${JSON.stringify(type)}`);
  // What is no regular file, or an empty one, has a header and nothing else.
  if (size === undefined || size === 0) return undefined;
  const path = typeof name_raw === "string" ? Buffer.from(name_raw, "base64") : Buffer.from(typeof name === "string" ? name : "");
  if (typeof size !== "number" || size < 0 || path.length === 0) throw new EngineError("corrupt", `${file}: an entry without name or size`);
  // "./etc/passwd", or "/etc/passwd": below the layer's root.
  return { kind: "file", path: Buffer.from(path.toString("latin1").replace(/^(\.?\/)+/, ""), "latin1"), size };
}

/**
 * The archive of a layer that docker has unpacked, out of what it has kept of it and the layer's files. Whether it is the layer's is for its digest to say.
 * @param tree the layer's own files
 */
export async function* assemble(tarSplit: string, tree: Pick<FileTree, "readFile">): AsyncGenerator<Uint8Array> {
  try {
    for await (const entry of entries(tarSplit)) {
      if (entry.kind === "bytes") yield entry.bytes;
      else yield* content(entry, tree);
    }
  } catch (error) {
    if (isEngineError(error)) throw error;
    // Missing, cut short, or not compressed.
    throw new EngineError("corrupt", `${tarSplit} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

async function* content({ path, size }: Extract<Entry, { kind: "file" }>, tree: Pick<FileTree, "readFile">): AsyncGenerator<Uint8Array> {
  const file = await tree.readFile(path);
  if (file.stat.size !== size) {
    await file.close();
    throw new EngineError("corrupt", `"${path.toString()}" has ${file.stat.size} bytes in the layer's directory, and had ${size} in its archive`);
  }
  yield* file.data;
}
