/**
 * /proc/PID/mountinfo, parsed.
 * @module
 * @see proc_pid_mountinfo(5)
 */

/** One mount. Strings are unescaped (\040 is a space). */
export interface MountInfo {
  readonly id: number;
  readonly parent: number;
  readonly major: number;
  readonly minor: number;
  /** What of the filesystem is mounted: "/" or a directory within it. */
  readonly root: string;
  readonly mountPoint: string;
  /** Per-mount options: rw, nosuid, … */
  readonly options: readonly string[];
  /** Optional fields: "shared:1", "master:2", "unbindable". */
  readonly propagation: readonly string[];
  readonly fstype: string;
  readonly source: string;
  /** Per-filesystem options. */
  readonly superOptions: readonly string[];
}

/** Parses the whole file; a line that is none (never seen) is skipped. */
export function parseMountinfo(text: string): MountInfo[] {
  return text.split("\n").flatMap((line) => parseLine(line) ?? []);
}

function parseLine(line: string): MountInfo | undefined {
  const fields = line.split(" ");
  const dash = fields.indexOf("-", 6);
  const [id, parent, device, root, mountPoint, options] = fields;
  const [fstype, source, superOptions] = fields.slice(dash + 1);
  const [major, minor] = device?.split(":") ?? [];
  if (dash < 0 || id === undefined || parent === undefined || root === undefined || mountPoint === undefined || options === undefined) return undefined;
  if (fstype === undefined || source === undefined || major === undefined || minor === undefined) return undefined;
  return {
    id: Number(id),
    parent: Number(parent),
    major: Number(major),
    minor: Number(minor),
    root: unescapeOctal(root),
    mountPoint: unescapeOctal(mountPoint),
    options: options.split(","),
    propagation: fields.slice(6, dash),
    fstype: unescapeOctal(fstype),
    source: unescapeOctal(source),
    superOptions: superOptions === undefined ? [] : unescapeOctal(superOptions).split(","),
  };
}

/** Octal escapes stand for bytes; space, tab, newline and backslash (and "#") are the only ones that the kernel writes. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** The mount that a path lies on: the longest mount point that is a prefix; of equal ones the last (it covers the others). */
export function mountOf(mounts: readonly MountInfo[], path: string): MountInfo | undefined {
  let best: MountInfo | undefined;
  for (const mount of mounts) {
    const inside = mount.mountPoint === "/" || path === mount.mountPoint || path.startsWith(`${mount.mountPoint}/`);
    if (inside && mount.mountPoint.length >= (best?.mountPoint.length ?? 0)) best = mount;
  }
  return best;
}
