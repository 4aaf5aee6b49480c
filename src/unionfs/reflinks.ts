import { constants, copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "#core/errors.ts";

/** True when files below `directory` can share data until they are changed. @see ioctl_ficlone(2) */
export async function hasReflinks(directory: string): Promise<boolean> {
  const probe = await mkdtemp(join(directory, "tmp-reflink-"));
  try {
    await writeFile(join(probe, "a"), Buffer.alloc(4096, 1));
    await copyFile(join(probe, "a"), join(probe, "b"), constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch (error) {
    if (["EOPNOTSUPP", "ENOTSUP", "ENOTTY", "EINVAL", "EXDEV", "ENOSYS"].includes(errnoOf(error) ?? "")) return false;
    throw error;
  } finally {
    await rm(probe, { recursive: true, force: true });
  }
}
