import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { mountOf, parseMountinfo } from "./mountinfo.ts";

const sample = `22 28 0:21 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue
40 35 0:40 / /a\\040b\\134c ro - overlay over\\040lay rw,lowerdir=/x\\072y
41 40 0:41 / /a\\040b\\134c rw - tmpfs none
`;

it("reads every field, with any number of optional ones", () => {
  const mounts = parseMountinfo(sample);
  expect(mounts).toHaveLength(4);
  expect(mounts[1]).toEqual({
    id: 36,
    parent: 35,
    major: 98,
    minor: 0,
    root: "/mnt1",
    mountPoint: "/mnt2",
    options: ["rw", "noatime"],
    propagation: ["master:1", "propagate_from:2"],
    fstype: "ext3",
    source: "/dev/root",
    superOptions: ["rw", "errors=continue"],
  });
  expect(mounts[2]).toMatchObject({ mountPoint: "/a b\\c", source: "over lay", superOptions: ["rw", "lowerdir=/x:y"], propagation: [] });
  expect(mounts[3]).toMatchObject({ fstype: "tmpfs", superOptions: [] });
});

it("finds the mount of a path: the longest, and of equal ones the last", () => {
  const mounts = parseMountinfo(`1 0 8:1 / / rw - ext4 /dev/a rw\n${sample}`);
  expect(mountOf(mounts, "/sys/fs")?.id).toBe(22);
  expect(mountOf(mounts, "/system")?.id).toBe(1);
  expect(mountOf(mounts, "/a b\\c/d")?.id).toBe(41);
  expect(mountOf([], "/")).toBeUndefined();
});

it("reads this machine's", () => {
  const text = readFileSync("/proc/self/mountinfo", "utf8");
  const mounts = parseMountinfo(text);
  expect(mounts).toHaveLength(text.trim().split("\n").length);
  expect(mountOf(mounts, "/")?.mountPoint).toBe("/");
});
