/**
 * Device nodes of the host: what `--device` and `--privileged` hand on.
 * @module
 */
import { lstat, readdir, stat } from "node:fs/promises";
import { EngineError, errnoOf } from "#core/errors.ts";
import { deviceNumbers } from "#core/file-stat.ts";

export interface DeviceNode {
  /** Path that the container shall see. */
  readonly path: string;
  /** Where the node is on the host. */
  readonly hostPath: string;
  readonly type: "c" | "b";
  readonly major: number;
  readonly minor: number;
  /** Permission bits. */
  readonly fileMode: number;
  readonly uid: number;
  readonly gid: number;
}

async function nodeAt(hostPath: string, path: string, follow: boolean): Promise<DeviceNode | undefined> {
  const info = await (follow ? stat(hostPath) : lstat(hostPath));
  const type = info.isCharacterDevice() ? "c" : info.isBlockDevice() ? "b" : undefined;
  if (type === undefined) return undefined;
  return { path, hostPath, type, ...deviceNumbers(BigInt(info.rdev)), fileMode: info.mode & 0o7777, uid: info.uid, gid: info.gid };
}

/** Not handed on: what a container has of its own. */
const ownInEveryContainer = new Set(["pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev"]);

async function walk(hostDir: string, dir: string): Promise<DeviceNode[]> {
  const nodes: DeviceNode[] = [];
  for (const entry of await readdir(hostDir, { withFileTypes: true })) {
    if (ownInEveryContainer.has(entry.name)) continue;
    const [from, to] = [`${hostDir}/${entry.name}`, `${dir}/${entry.name}`];
    if (entry.isDirectory()) nodes.push(...(await walk(from, to)));
    else if (entry.isCharacterDevice() || entry.isBlockDevice()) {
      // A device may be unplugged between readdir and lstat.
      const node = await nodeAt(from, to, false).catch((error: unknown) => {
        if (errnoOf(error) === "ENOENT") return undefined;
        throw error;
      });
      if (node !== undefined) nodes.push(node);
    }
  }
  return nodes;
}

/** Every device below /dev, for `--privileged`. */
export async function listHostDevices(): Promise<DeviceNode[]> {
  return await walk("/dev", "/dev");
}

/** What `--device host:container` names: one node, or all below a directory. EngineError "invalid" with Docker's text. */
export async function resolveDevice(pathOnHost: string, pathInContainer: string): Promise<DeviceNode[]> {
  const refuse = (why: string, cause?: unknown) =>
    new EngineError("invalid", `error gathering device information while adding custom device "${pathOnHost}": ${why}`, { cause });
  try {
    if ((await stat(pathOnHost)).isDirectory()) return await walk(pathOnHost, pathInContainer);
    const node = await nodeAt(pathOnHost, pathInContainer, true);
    if (node === undefined) throw refuse("not a device node");
    return [node];
  } catch (error) {
    if (errnoOf(error) === "ENOENT") throw refuse("no such file or directory", error);
    throw error;
  }
}
