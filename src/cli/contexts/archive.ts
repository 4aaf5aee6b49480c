/** The tar of `context export`: meta.json and the PEM files. @module */
import { TarReader } from "#unionfs/tar/reader.ts";
import { endBlocks, formatHeader, padding } from "#unionfs/tar/writer.ts";

export function encodeTar(files: ReadonlyMap<string, Uint8Array>): Buffer {
  const parts: Uint8Array[] = [];
  for (const [name, bytes] of files)
    parts.push(
      formatHeader({ name, type: "file", linkname: "", mode: 0o644, uid: 0, gid: 0, size: bytes.length, mtimeNs: 0n, major: 0, minor: 0, xattrs: [] }),
      bytes,
      padding(bytes.length),
    );
  return Buffer.concat([...parts, endBlocks()]);
}

/** A context is small; what is larger is none. */
const MAX_FILE = 1 << 20;

export async function decodeTar(source: AsyncIterable<Uint8Array>): Promise<Map<string, Uint8Array>> {
  const reader = new TarReader(source, { allowMissingEnd: true });
  const files = new Map<string, Uint8Array>();
  for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) {
    if (entry.type !== "file") continue;
    if (entry.size > MAX_FILE) throw new Error(`${entry.name}: too large for a context`);
    files.set(entry.name, await reader.readAll(MAX_FILE));
  }
  return files;
}
