import { describe, expect, it } from "vitest";
import type { IdMappings } from "#core/id-mappings.ts";
import type { WorkerTree } from "#linux/file-tree.ts";
import { shiftedTree, shiftOwners } from "./shifted-tree.ts";
import { MemoryTree } from "./testing/memory-tree.ts";

const maps: IdMappings = {
  uids: [{ containerID: 0, hostID: 1000, size: 100 }],
  gids: [
    { containerID: 0, hostID: 5000, size: 10 },
    { containerID: 10, hostID: 9000, size: 10 },
  ],
};
const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");
// setcap cap_net_bind_service+ep: for the root of the namespace, and for that of another with its number on the host.
const capability = hex("01000002 00040000 00000000 00000000 00000000");
const capabilityOfHost = hex("01000003 00040000 00000000 00000000 00000000 e8030000");
// user::rw-, user:7:r--, group::r--, group:12:rw-, mask::rw-, other::---
const accessList = (user: string, group: string) =>
  hex(`02000000 01000600 ffffffff 02000400 ${user} 04000400 ffffffff 08000600 ${group} 10000600 ffffffff 20000000 ffffffff`);

function tree(): { readonly disk: MemoryTree; readonly shifted: WorkerTree } {
  const disk = new MemoryTree();
  return { disk, shifted: shiftedTree(Object.assign(disk, { directory: async () => "" }), maps) };
}

const meta = { mode: 0o4755, uid: 3, gid: 12, mtimeNs: 5n };

describe("a tree with the ids of a user namespace", () => {
  it("is written and read in the namespace's numbers: owners, access lists, and whose root capabilities are for", async () => {
    const { disk, shifted } = tree();
    await shifted.openFile("f", 0);
    await shifted.closeFile({
      ...meta,
      xattrs: [
        { name: "security.capability", value: capability },
        { name: "system.posix_acl_access", value: accessList("07000000", "0c000000") },
        { name: "user.x", value: hex("01") },
      ],
    });
    const onDisk = await disk.lstat("f");
    expect(onDisk).toMatchObject({ uid: 1003, gid: 9002, mode: 0o4755 });
    const values = (stat: typeof onDisk) => Object.fromEntries((stat?.xattrs ?? []).map(({ name, value }) => [name, Buffer.from(value).toString("hex")]));
    expect(values(onDisk)).toEqual({
      "security.capability": capabilityOfHost.toString("hex"),
      "system.posix_acl_access": accessList("ef030000", "2a230000").toString("hex"),
      "user.x": "01",
    });
    const inside = await shifted.lstat("f");
    expect(inside).toMatchObject({ uid: 3, gid: 12 });
    expect(values(inside)).toEqual({
      "security.capability": capability.toString("hex"),
      "system.posix_acl_access": accessList("07000000", "0c000000").toString("hex"),
      "user.x": "01",
    });
  });

  it("shows as nobody's what the namespace does not know, and gives nothing to whom it does not know", async () => {
    const { disk, shifted } = tree();
    await disk.mkdir("d", { ...meta, uid: 7, gid: 9003 });
    expect(await shifted.lstat("d")).toMatchObject({ uid: 65534, gid: 13 });
    await expect(shifted.mkdir("e", { ...meta, uid: 100 })).rejects.toThrow("uid 100 is not in the container's user namespace");
    await expect(shifted.mkdir("e", { ...meta, gid: 20 })).rejects.toThrow("gid 20 is not in the container's user namespace");
    await expect(shifted.mkdir("e", { ...meta, xattrs: [{ name: "system.posix_acl_access", value: accessList("ff000000", "0c000000") }] })).rejects.toThrow(
      "uid 255 is not in the container's user namespace",
    );
    expect(await disk.lstat("e")).toBeUndefined();
  });

  it("a tree as it was is given the host's ids, each file once, whatever names it has", async () => {
    const { disk, shifted } = tree();
    await disk.mkdir("d", meta);
    await disk.openFile("d/f", 0);
    await disk.closeFile(meta);
    await disk.link("g", "d/f");
    await disk.symlink("l", "g", meta);
    await shiftOwners(Object.assign(disk, { directory: async () => "" }), maps);
    for (const path of ["d", "d/f", "g", "l"]) {
      expect(await disk.lstat(path), path).toMatchObject({ uid: 1003, gid: 9002 });
      expect(await shifted.lstat(path), path).toMatchObject({ uid: 3, gid: 12 });
    }
    expect(await disk.lstat("")).toMatchObject({ uid: 1000, gid: 5000 });
  });
});
