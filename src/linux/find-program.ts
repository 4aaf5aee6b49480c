import { access, constants, open } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "#core/errors.ts";

const directories = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/** Path of a program of the host; undefined when it is not installed. */
export async function findProgram(name: string): Promise<string | undefined> {
  for (const directory of directories) {
    const path = join(directory, name);
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}

/** Why no filesystem in user space can be mounted here; undefined = it can. */
export async function canOpenFuse(): Promise<string | undefined> {
  try {
    await (await open("/dev/fuse", "r+")).close();
    return undefined;
  } catch (error) {
    return `/dev/fuse cannot be opened (${errnoOf(error) ?? String(error)}): the kernel module fuse is missing or not permitted`;
  }
}
