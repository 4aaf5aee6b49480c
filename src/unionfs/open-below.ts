import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";

/** What one system call takes, with the NUL; some room is left for our own prefix. */
const longest = 4000;

/** A path that Node can pass to the kernel for `path` below `directory`; undefined where both together are too long: {@link withPathBelow}. */
export function pathBelow(directory: string, path: Buffer): Buffer | undefined {
  const at = Buffer.from(`${directory}/`);
  return at.length + path.length > longest ? undefined : Buffer.concat([at, path]);
}

/**
 * Calls `use` with a path that Node can pass to the kernel for `path` below `directory`, also where both together are longer than PATH_MAX: then
 * the way there is opened in steps. Nothing on the way may be a link (a layer's own directories are none).
 */
export async function withPathBelow<T>(directory: string, path: Buffer, use: (path: Buffer) => Promise<T>): Promise<T> {
  let at = Buffer.from(`${directory}/`);
  let rest = path;
  const steps: FileHandle[] = [];
  try {
    while (at.length + rest.length > longest) {
      // As many whole components as fit.
      const cut = rest.lastIndexOf(0x2f, longest - at.length);
      if (cut <= 0) break;
      const step = await open(Buffer.concat([at, rest.subarray(0, cut)]), constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
      steps.push(step);
      at = Buffer.from(`/proc/self/fd/${step.fd}/`);
      rest = rest.subarray(cut + 1);
    }
    return await use(Buffer.concat([at, rest]));
  } finally {
    for (const step of steps) await step.close();
  }
}
