import type { TarEntry } from "./entry.ts";
import { TarReader } from "./reader.ts";
import { endBlocks, formatHeader, padding } from "./writer.ts";

/** The same archive with no time later than `latestNs` (ns since 1970): for archives of ours, which have no sparse files.. */
export async function* clampTimes(source: AsyncIterable<Uint8Array>, latestNs: bigint): AsyncIterable<Uint8Array> {
  const reader = new TarReader(source);
  try {
    for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) {
      yield formatHeader({ ...plain(entry), mtimeNs: entry.mtimeNs > latestNs ? latestNs : entry.mtimeNs });
      if (entry.type !== "file") continue;
      for (let piece = await reader.read(); piece !== undefined; piece = await reader.read()) yield piece;
      yield padding(entry.size);
    }
    yield endBlocks();
  } finally {
    await reader.close();
  }
}

/** The writer puts the slash behind a directory's name itself. */
function plain(entry: TarEntry): TarEntry {
  return { ...entry, name: entry.name.replace(/^\.?\/+|\/+$/g, "") };
}
