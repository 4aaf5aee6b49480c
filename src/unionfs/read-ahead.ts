import type { OpenedFile } from "#linux/file-tree.ts";

/** What is about to be read: a small file, whose content comes with the answer when it is opened. */
export interface SmallFile {
  /** At most {@link smallBytes}. */
  readonly bytes: number;
  readonly open: () => Promise<OpenedFile>;
}

/** Files up to this length are worth opening before their turn. Bytes. */
export const smallBytes: number = 128 * 1024;
/** What is waited for at most: files, bytes in them, and items. */
const maxFiles = 48;
const maxBytes = 2 * 1024 * 1024;
const maxItems = 2 * maxFiles;

/**
 * Passes items on and has small files opened ahead, many in one message: one question for each file, and an answer that is waited for, is what an archive of small files takes its
 * time for.
 * @param fileOf the file of an item that is to be opened ahead, if any; asked once for each
 */
export async function* readAhead<T>(
  items: AsyncIterable<T>,
  fileOf: (item: T) => SmallFile | undefined,
): AsyncGenerator<{ readonly item: T; readonly opened: Promise<OpenedFile> | undefined }, void> {
  const queue: { readonly item: T; readonly opened: Promise<OpenedFile> | undefined; readonly bytes: number }[] = [];
  let files = 0;
  let bytes = 0;
  const take = () => {
    const next = queue.shift()!;
    if (next.opened !== undefined) files--;
    bytes -= next.bytes;
    return next;
  };
  try {
    for await (const item of items) {
      const file = fileOf(item);
      const opened = file?.open();
      // Whoever gets to it sees the failure; until then it is nobody's.
      opened?.catch(() => undefined);
      if (opened !== undefined) files++;
      bytes += file?.bytes ?? 0;
      queue.push({ item, opened, bytes: file?.bytes ?? 0 });
      while (queue.length > 0 && (files === 0 || files >= maxFiles || bytes >= maxBytes || queue.length >= maxItems)) yield take();
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
