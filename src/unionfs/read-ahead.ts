import type { OpenedFile } from "#linux/file-tree.ts";
import type { TarSource } from "./write-tree.ts";

/** A source, and its file when it has been opened already. */
export interface Ahead {
  readonly source: TarSource;
  readonly opened: Promise<OpenedFile> | undefined;
}

/** Files up to this length are opened before their turn: all of one comes with the answer then. Bytes. */
const smallBytes = 128 * 1024;
/** What is waited for at most: files, and bytes in them. */
const maxFiles = 48;
const maxBytes = 2 * 1024 * 1024;

/**
 * Passes sources on and has small files opened ahead, many in one message: one question for each file, and an answer that is waited for, is what an archive of small files takes its
 * time for. Further names of a file are not opened.
 */
export async function* readAhead(sources: AsyncIterable<TarSource>): AsyncIterable<Ahead> {
  const queue: Ahead[] = [];
  const seen = new Set<string>();
  let files = 0;
  let bytes = 0;
  const take = (): Ahead => {
    const next = queue.shift()!;
    if (next.opened !== undefined) {
      files--;
      bytes -= sizeOf(next.source);
    }
    return next;
  };
  try {
    for await (const source of sources) {
      const opened = isSmall(source) && isFirstName(source, seen) ? source.tree.readFile(source.stat.path) : undefined;
      if (opened !== undefined) {
        // Whoever gets to it sees the failure; until then it is nobody's.
        opened.catch(() => undefined);
        files++;
        bytes += sizeOf(source);
      }
      queue.push({ source, opened });
      while (files >= maxFiles || bytes >= maxBytes || queue.length >= 4 * maxFiles || files === 0) {
        if (queue.length === 0) break;
        yield take();
      }
    }
    while (queue.length > 0) yield take();
  } finally {
    for (const { opened } of queue)
      await opened?.then(
        (file) => file.close(),
        () => undefined,
      );
  }
}

function isSmall(source: TarSource): source is TarSource & { kind: "entry" } {
  return source.kind === "entry" && source.stat.type === "file" && source.stat.size <= smallBytes;
}

function isFirstName({ stat }: TarSource & { kind: "entry" }, seen: Set<string>): boolean {
  if (stat.nlink === 1) return true;
  const inode = `${stat.dev}:${stat.ino}`;
  return seen.size < seen.add(inode).size;
}

function sizeOf(source: TarSource): number {
  return source.kind === "entry" ? source.stat.size : 0;
}
