import { constants, copyFile, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "#core/errors.ts";

/** True when files can share data until they are changed where the directory `probe` is, which is made and removed. @see ioctl_ficlone(2) */
export async function hasReflinks(probe: string): Promise<boolean> {
  await mkdir(probe, { mode: 0o700 });
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
