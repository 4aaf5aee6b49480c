/**
 * The device mapper's ioctls as bytes: struct dm_ioctl, its targets and messages.
 * @module
 * @see linux/dm-ioctl.h
 */

/** Bytes of struct dm_ioctl. */
const HEAD = 312;
const NAME = { offset: 48, bytes: 128 };
/** Of a target: sector_start, length, status, next, and 16 bytes of its type; its parameters follow. */
const TARGET = 40;
/** What the helper takes as an argument. */
const MAX = 8192;

export const DM = {
  VERSION: 0,
  DEV_CREATE: 3,
  DEV_REMOVE: 4,
  DEV_SUSPEND: 6,
  DEV_STATUS: 7,
  TABLE_LOAD: 9,
  TABLE_STATUS: 12,
  TARGET_MSG: 14,
  GET_TARGET_VERSION: 17,
} as const;

export const DM_FLAG: Readonly<Record<"SUSPEND" | "STATUS_TABLE" | "DEFERRED_REMOVE", number>> = {
  SUSPEND: 1 << 1,
  STATUS_TABLE: 1 << 4,
  DEFERRED_REMOVE: 1 << 17,
};

/** _IOWR(0xfd, number, struct dm_ioctl) */
export function dmRequest(number: number): number {
  return (0xc0000000 | (HEAD << 16) | (0xfd << 8) | number) >>> 0;
}

export interface DmTarget {
  /** Length in sectors of 512 bytes. */
  readonly sectors: number;
  readonly type: string;
  readonly params: string;
}

/** The argument of a call about the device `name`. `room`: bytes for the answer. */
export function dmArgument(
  name: string,
  options: { readonly flags?: number; readonly target?: DmTarget; readonly message?: string; readonly room?: number } = {},
): Buffer {
  const payload =
    options.target === undefined ? (options.message === undefined ? Buffer.alloc(0) : messageBytes(options.message)) : targetBytes(options.target);
  const size = Math.min(MAX, HEAD + payload.length + (options.room ?? 0));
  const arg = Buffer.alloc(size);
  arg.writeUInt32LE(4, 0);
  arg.writeUInt32LE(size, 12);
  arg.writeUInt32LE(HEAD, 16);
  arg.writeUInt32LE(options.target === undefined ? 0 : 1, 20);
  arg.writeUInt32LE(options.flags ?? 0, 28);
  arg.write(name, NAME.offset, NAME.bytes - 1, "utf8");
  payload.copy(arg, HEAD);
  return arg;
}

/** struct dm_target_spec and its parameters. */
function targetBytes({ sectors, type, params }: DmTarget): Buffer {
  const bytes = Buffer.alloc(Math.ceil((TARGET + Buffer.byteLength(params) + 1) / 8) * 8);
  bytes.writeBigUInt64LE(BigInt(sectors), 8);
  bytes.writeUInt32LE(bytes.length, 20);
  bytes.write(type, 24, 15, "utf8");
  bytes.write(params, TARGET, "utf8");
  return bytes;
}

/** struct dm_target_msg: the sector, and the text. */
function messageBytes(message: string): Buffer {
  return Buffer.concat([Buffer.alloc(8), Buffer.from(`${message}\0`, "utf8")]);
}

/** What the kernel says of a device. */
export interface DmDevice {
  readonly major: number;
  readonly minor: number;
  readonly openCount: number;
}

export function readDevice(answer: Buffer): DmDevice {
  const dev = answer.readUInt32LE(40);
  return { major: (dev >>> 8) & 0xfff, minor: (dev & 0xff) | ((dev >>> 12) & 0xfff00), openCount: answer.readInt32LE(24) };
}

/** "4.48.0" */
export function readVersion(answer: Buffer): string {
  return [0, 4, 8].map((offset) => answer.readUInt32LE(offset)).join(".");
}

/** The status line of a device's only target; undefined = it has none. */
export function readStatus(answer: Buffer): string | undefined {
  const start = answer.readUInt32LE(16);
  if (answer.readUInt32LE(20) === 0 || start + TARGET > answer.length) return undefined;
  return cString(answer, start + TARGET);
}

function cString(bytes: Buffer, at: number): string {
  const end = bytes.indexOf(0, at);
  return bytes.toString("utf8", at, end === -1 ? bytes.length : end);
}
