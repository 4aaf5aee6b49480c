import { createWriteStream } from "node:fs";
import { chmod, chown, link, lutimes, mkdir, symlink, utimes } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ByteString, SourceTree } from "./source-tree.ts";

/**
 * Writes a file or directory of a tree out as `to`, a path of ours that does not exist: for mounts, which need a directory of the host. What is made is new, so no link on the way is
 * anybody else's. Devices and sockets are left out.
 */
export async function materialize(tree: SourceTree, path: ByteString, to: string): Promise<void> {
  const inodes = new Map<string, Buffer>();
  const directories: { readonly at: Buffer; readonly mtimeMs: number }[] = [];
  for await (const entry of tree.walk(path)) {
    const below = entry.path === path ? "" : path === "" ? entry.path : entry.path.slice(path.length + 1);
    const at = Buffer.concat([Buffer.from(to), Buffer.from(below === "" ? "" : `/${below}`, "latin1")]);
    const mtimeMs = Number(entry.mtimeNs / 1_000_000n);
    if (entry.type === "dir") {
      await mkdir(at);
      await chown(at, entry.uid, entry.gid);
      await chmod(at, entry.mode);
      directories.push({ at, mtimeMs });
    } else if (entry.type === "symlink") {
      await symlink(Buffer.from(entry.target, "latin1"), at);
      await lutimes(at, mtimeMs / 1000, mtimeMs / 1000);
    } else if (entry.type === "file") {
      const first = entry.inode === undefined ? undefined : inodes.get(entry.inode);
      if (first !== undefined) {
        await link(first, at);
        continue;
      }
      if (entry.inode !== undefined) inodes.set(entry.inode, at);
      await pipeline(Readable.from(tree.read(entry.path), { objectMode: false }), createWriteStream(at, { flags: "wx", mode: 0o600 }));
      await chown(at, entry.uid, entry.gid);
      await chmod(at, entry.mode);
      await utimes(at, mtimeMs / 1000, mtimeMs / 1000);
    }
  }
  for (const { at, mtimeMs } of directories.reverse()) await utimes(at, mtimeMs / 1000, mtimeMs / 1000);
}
