/**
 * The on-disk form of EROFS, as far as a layer's image needs it: blocks of 512 bytes (those of a tar), extended inodes, inline attributes, and files whose chunks lie
 * on another device.
 * @module
 * @see https://docs.kernel.org/filesystems/erofs.html
 * @see https://erofs.docs.kernel.org/en/latest/core_ondisk.html
 */
export const SUPER_OFFSET = 1024;
export const SUPER_MAGIC = 0xe0f5e1e2;
/** Device table: in units of its slots' size. */
export const DEVICE_SLOT = 128;
export const DEVICE_TABLE_OFFSET = 1536;
/** Where inodes begin; a number (`nid`) counts 32 bytes from the start of the image, so that none is 0. */
export const INODES_OFFSET = 2048;
export const NID_UNIT = 32;
export const INODE_SIZE = 64;

export const COMPAT_CHECKSUM_MTIME = 0x3;
export const INCOMPAT_CHUNKS_DEVICES = 0xc;

export const LAYOUT = { plain: 0, inline: 2, chunks: 4 } as const;
export const CHUNK_INDEXES = 0x20;
export const MAX_CHUNK_BITS = 31;
/** A chunk that is a hole. */
export const NULL_BLOCK = 0xffffffff;

export const DIRENT_SIZE = 12;
/** dirent's file_type by inode type. */
export const FILE_TYPE = { file: 1, dir: 2, char: 3, block: 4, fifo: 5, symlink: 7 } as const;
export const S_IFMT = { file: 0o100000, dir: 0o040000, char: 0o020000, block: 0o060000, fifo: 0o010000, symlink: 0o120000 } as const;

/** Attribute names are stored without their prefix, which has a number; the two access lists are nothing but a prefix. */
export const XATTR_PREFIXES: readonly (readonly [number, string])[] = [
  [2, "system.posix_acl_access"],
  [3, "system.posix_acl_default"],
  [1, "user."],
  [4, "trusted."],
  [6, "security."],
];

const table = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = (c & 1) !== 0 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
  return c >>> 0;
});

/** CRC-32C without the final inversion, as the superblock has it. */
export function crc32c(bytes: Uint8Array, seed = 0xffffffff): number {
  let c = seed;
  for (const byte of bytes) c = (table[(c ^ byte) & 0xff]! ^ (c >>> 8)) >>> 0;
  return c;
}
