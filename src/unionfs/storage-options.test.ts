import { expect, it } from "vitest";
import { readDeviceMapperOptions } from "./drivers/devicemapper/options.ts";
import { booleanOption, readStorageOptions, sizeOption } from "./storage-options.ts";

const known = { "x.size": true, "x.yes": true, "x.old": { reason: "nobody needs it" } } as const;

it("reads what the driver knows, names in any case, the last one", () => {
  const options = readStorageOptions("x", ["X.Size=1G", "x.size= 2k ", "x.yes=T"], known);
  expect(sizeOption(options, "x.size")).toBe(2048);
  expect(booleanOption(options, "x.yes")).toBe(true);
  expect(sizeOption(options, "x.none")).toBeUndefined();
});

it.each([
  ["x.what=1", "invalid", "x: unknown option x.what"],
  ["size", "invalid", "unable to parse storage-opt key/value: size"],
  ["x.old=1", "unsupported", "x: option x.old is not supported: nobody needs it"],
  ["constructor=1", "invalid", "x: unknown option constructor"],
])("refuses %s", (option, code, message) => {
  expect(() => readStorageOptions("x", [option], known)).toThrow(expect.objectContaining({ code, message }));
});

it("refuses sizes and truths that are none", () => {
  const options = readStorageOptions("x", ["x.size=much", "x.yes=perhaps"], known);
  expect(() => sizeOption(options, "x.size")).toThrow("invalid size: 'much'");
  expect(() => booleanOption(options, "x.yes")).toThrow("neither true nor false");
});

it("knows Docker's options of devicemapper, and which go together", () => {
  expect(readDeviceMapperOptions([])).toMatchObject({
    loopDataBytes: 100 * 1024 ** 3,
    loopMetadataBytes: 2 * 1024 ** 3,
    blockBytes: 65_536,
    minFreePercent: 10,
  });
  expect(readDeviceMapperOptions(["dm.basesize=20G", "dm.fs=ext4", "dm.min_free_space=0%", "dm.mountopt=noatime,discard"])).toMatchObject({
    baseSizeBytes: 20 * 1024 ** 3,
    filesystem: "ext4",
    minFreePercent: 0,
    mountOptions: ["noatime", "discard"],
  });
  for (const [options, message] of [
    [["dm.fs=btrfs"], "unsupported filesystem btrfs"],
    [["dm.datadev=/dev/a"], "go together"],
    [["dm.thinpooldev=a", "dm.datadev=b", "dm.metadatadev=c"], "excludes"],
    [["dm.blocksize=3000"], "no multiple of 64K"],
    [["dm.min_free_space=200%"], "no percentage"],
    [["dm.directlvm_device=/dev/x"], "is not supported"],
    [["overlay2.size=1G"], "unknown option overlay2.size"],
  ] as const)
    expect(() => readDeviceMapperOptions(options)).toThrow(message);
});
