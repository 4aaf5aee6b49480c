import { expect, it } from "vitest";
import { DM, dmArgument, dmRequest, readDevice, readStatus } from "./dm-ioctl.ts";
import { readPoolStatus } from "./thin-pool.ts";

it("numbers its requests as linux/dm-ioctl.h does", () => {
  expect(dmRequest(DM.VERSION)).toBe(0xc138fd00);
  expect(dmRequest(DM.TARGET_MSG)).toBe(0xc138fd0e);
});

it("lays a table out: header, target, parameters to a multiple of eight", () => {
  const arg = dmArgument("pool", { target: { sectors: 2048, type: "thin", params: "253:0 1" } });
  expect(arg.length).toBe(312 + 48);
  expect([arg.readUInt32LE(0), arg.readUInt32LE(12), arg.readUInt32LE(16), arg.readUInt32LE(20)]).toEqual([4, 360, 312, 1]);
  expect(arg.toString("latin1", 48, 53)).toBe("pool\0");
  expect(arg.readBigUInt64LE(312 + 8)).toBe(2048n);
  expect(arg.readUInt32LE(312 + 20)).toBe(48);
  expect(readStatus(arg)).toBe("253:0 1");
});

it("puts a message behind its sector", () => {
  const arg = dmArgument("pool", { message: "delete 7" });
  expect(arg.toString("latin1", 320)).toBe("delete 7\0");
});

it("reads device numbers as the kernel's new encoding has them", () => {
  const answer = dmArgument("x");
  answer.writeUInt32LE((253 << 8) | 0x2c | (0x1 << 20), 40);
  answer.writeInt32LE(2, 24);
  expect(readDevice(answer)).toEqual({ major: 253, minor: 0x12c, openCount: 2 });
});

it("reads a pool's status, and what is wrong with it", () => {
  const line = "1 12/16384 300/65536 - rw discard_passdown error_if_no_space - 1024";
  expect(readPoolStatus(line, 65_536)).toEqual({
    blockBytes: 65_536,
    dataUsed: 300 * 65_536,
    dataTotal: 65_536 * 65_536,
    metadataUsed: 12 * 4096,
    metadataTotal: 16_384 * 4096,
    failed: undefined,
  });
  expect(readPoolStatus(line.replace("- rw", "- ro"), 65_536).failed).toBe("ro");
  expect(readPoolStatus(line.replace("space - 1024", "space needs_check 1024"), 65_536).failed).toBe("needs_check");
  expect(readPoolStatus("Fail", 65_536).failed).toBe("Fail");
});
