import { statfs } from "node:fs/promises";

/** statfs(2) f_type → the name that `docker info` prints. @see linux/magic.h */
const names: Readonly<Record<string, string>> = {
  "61756673": "aufs",
  "9123683e": "btrfs",
  "28cd3d45": "cramfs",
  f15f: "ecryptfs",
  ef53: "extfs",
  f2f52010: "f2fs",
  "65735546": "fuseblk",
  "3153464a": "jfs",
  "6969": "nfs",
  "794c7630": "overlayfs",
  "52654973": "reiserfs",
  fe534d42: "smb",
  "73717368": "squashfs",
  "1021994": "tmpfs",
  a501fcf5: "vxfs",
  "58465342": "xfs",
  "2fc12fc1": "zfs",
};

/** The filesystem below a directory, by Docker's name for it; "<unknown>" where Docker says so too. */
export async function backingFilesystem(path: string | Buffer): Promise<string> {
  const { type } = await statfs(path);
  // f_type is a signed long on some kernels' ABIs; the magic is its low 32 bits.
  return names[(type >>> 0).toString(16)] ?? "<unknown>";
}
