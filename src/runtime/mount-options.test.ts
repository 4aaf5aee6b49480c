import { describe, expect, it } from "vitest";
import { MOUNT_ATTR, MS } from "#linux/flags.ts";
import { parseMountOptions } from "./mount-options.ts";

describe("parseMountOptions", () => {
  it("separates flags, propagation and data", () => {
    const options = parseMountOptions(["nosuid", "noexec", "rprivate", "mode=755", "size=64m", "ro"]);
    expect(options.flags).toBe(MS.NOSUID | MS.NOEXEC | MS.RDONLY);
    expect(options.propagation).toBe(MS.PRIVATE);
    expect(options.propagationRecursive).toBe(true);
    expect(options.data).toBe("mode=755,size=64m");
    expect(options.set).toBe(MOUNT_ATTR.NOSUID | MOUNT_ATTR.NOEXEC | MOUNT_ATTR.RDONLY);
  });

  it("lets the last one win", () => {
    expect(parseMountOptions(["ro", "rw"]).flags).toBe(0n);
    expect(parseMountOptions(["noexec", "exec"])).toMatchObject({ flags: 0n, set: 0n, clr: MOUNT_ATTR.NOEXEC });
    expect(parseMountOptions(["size=1m", "size=2m"]).data).toBe("size=2m");
    expect(parseMountOptions(["rprivate", "slave"])).toMatchObject({ propagation: MS.SLAVE, propagationRecursive: false });
  });

  it("knows the recursive forms, and that ro and rw are not recursive o and w", () => {
    expect(parseMountOptions(["rbind", "rro"])).toMatchObject({ recursiveBind: true, recursiveSet: MOUNT_ATTR.RDONLY, set: MOUNT_ATTR.RDONLY });
    expect(parseMountOptions(["ro"])).toMatchObject({ recursiveSet: 0n, set: MOUNT_ATTR.RDONLY });
    expect(parseMountOptions(["rnosuid"])).toMatchObject({ recursiveSet: MOUNT_ATTR.NOSUID });
    expect(parseMountOptions(["rro", "rrw"])).toMatchObject({ recursiveSet: 0n, recursiveClr: MOUNT_ATTR.RDONLY });
    expect(parseMountOptions(["bind"]).recursiveBind).toBe(false);
  });

  it("clears the whole atime field when it sets it", () => {
    expect(parseMountOptions(["noatime"])).toMatchObject({ set: MOUNT_ATTR.NOATIME, clr: MOUNT_ATTR.ATIME });
    expect(parseMountOptions(["strictatime"])).toMatchObject({ flags: MS.STRICTATIME, set: MOUNT_ATTR.STRICTATIME, clr: MOUNT_ATTR.ATIME });
    expect(parseMountOptions(["relatime"])).toMatchObject({ flags: MS.RELATIME, set: 0n, clr: 0n });
  });
});
