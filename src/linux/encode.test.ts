import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { encodePlan } from "./encode.ts";
import { type Op, opTable } from "./ops.gen.ts";
import { NO_SLOT, type Step } from "./plan.ts";
import { F, FRAME_HEAD, FrameParser, frame, Writer } from "./wire.ts";
import { T } from "./tree-wire.ts";

const host = (op: Op, ignore: readonly string[] = []): Step => ({ ...op, where: "host", why: "test", ignore });
const bytes = (...steps: Step[]) => Buffer.from(encodePlan({ steps }).done()).toString("hex");
const native = (name: string) => readFileSync(new URL(`../../native/${name}`, import.meta.url), "utf8");

describe("encodePlan", () => {
  it("writes length, code, side, ignored errors and fields, little endian", () => {
    expect(bytes(host({ op: "rmdir", dir: NO_SLOT, path: "/a" }, ["ENOENT", "ENOTEMPTY"]))).toBe(
      ["01000000", "13000000", "0a00", "00", "02", "0200", "2700", "ffffffff", "02000000", "2f61", "00"].join(""),
    );
    expect(bytes({ ...({ op: "capset", effective: 1n, permitted: 2n ** 63n, inheritable: 0n } as const), where: "child", why: "" })).toBe(
      ["01000000", "1c000000", "4000", "01", "00", "0100000000000000", "0000000000000080", "0000000000000000"].join(""),
    );
    expect(bytes(host({ op: "setgroups", gids: [1, 2] }))).toBe(["01000000", "10000000", "4400", "00", "00", "02000000", "01000000", "02000000"].join(""));
    expect(bytes()).toBe("00000000");
  });

  it("writes strings in UTF-8 and lists of them", () => {
    const plan = bytes({ op: "exec", paths: ["é"], argv: [], envp: ["", "a"], where: "child", why: "" });
    expect(plan).toContain(["01000000", "02000000", "c3a9", "00", "00000000", "02000000", "00000000", "00", "01000000", "61", "00"].join(""));
  });

  it.each<[string, Step, string]>([
    ["a NUL in a path", host({ op: "rmdir", dir: NO_SLOT, path: "/a\0b" }), "step 0 (rmdir): path: "],
    ["a slot out of range", host({ op: "close", slot: 256 }), "slot 256"],
    ["no slot where one is filled", host({ op: "fsopen", fstype: "tmpfs", out: NO_SLOT }), "slot 4294967295"],
    ["a number that does not fit", host({ op: "rmdir", dir: -1, path: "/" }), "slot -1"],
    ["a negative mode", host({ op: "umask", mask: -1 }), "mask"],
    ["an error that Linux has not", host({ op: "setsid" }, ["ENOSUCH"]), "ENOSUCH"],
    ["too many ignored errors", host({ op: "setsid" }, ["EPERM", "EACCES", "ENOENT", "EEXIST", "EBUSY"]), "more than 4"],
    ["a string beyond the limit", host({ op: "sethostname", name: "x".repeat((1 << 20) + 1) }), "more than 1048576"],
  ])("refuses %s, naming step and field", (_, step, message) => {
    expect(() => encodePlan({ steps: [step] })).toThrow(message);
  });

  it("refuses a plan beyond 4 MiB", () => {
    const data = new Uint8Array(1 << 20);
    const step = host({ op: "write", dir: NO_SLOT, path: "/x", flags: 0n, data: data.subarray(16) });
    expect(() => encodePlan({ steps: [step, step, step, step, step] })).toThrow("at most 4194304");
  });
});

describe("the table, its C twin and the wire's numbers", () => {
  it("agree on codes and fields", () => {
    const header = native("ops.gen.h");
    for (const [name, { code, fields }] of Object.entries(opTable)) {
      expect(header).toContain(`  OP_${name.toUpperCase()} = ${code},`);
      const decoder = new RegExp(`case OP_${name.toUpperCase()}:\\n      return ([^;]*);`).exec(header)?.[1];
      expect(decoder).toBe(fields.length === 0 ? "0" : fields.map(([field, type]) => `read_${type}(r, &op->${name}.${field})`).join(" || "));
      expect(header).toContain(`int do_${name}(`);
    }
    expect([...header.matchAll(/^ {2}OP_/gm)]).toHaveLength(Object.keys(opTable).length);
  });

  it("agree on frame types", () => {
    const numbers = (text: string, prefix: string) =>
      Object.fromEntries([...text.matchAll(new RegExp(`^ {2}${prefix}_([A-Z_]+) = (\\d+),`, "gm"))].map((m) => [m[1], Number(m[2])]));
    expect(numbers(native("wire.h"), "F")).toEqual(F);
    expect(numbers(native("tree.h"), "T")).toEqual(T);
  });
});

describe("frames", () => {
  it("are cut from any chunks", () => {
    const stream = Buffer.concat([frame(1, 2, Buffer.from("abc")), frame(3, 4), frame(5, 6, Buffer.alloc(100_000, 7))]);
    for (const size of [1, 2, 8, 9, 10, 13, 50_000, stream.length]) {
      const seen: [number, number, number][] = [];
      const parser = new FrameParser((type, id, payload) => seen.push([type, id, payload.length]));
      for (let at = 0; at < stream.length; at += size) parser.push(stream.subarray(at, at + size));
      expect(seen).toEqual([
        [1, 2, 3],
        [3, 4, 0],
        [5, 6, 100_000],
      ]);
    }
  });

  it("with an impossible length are refused", () => {
    for (const length of [0, 4, 0xffffffff]) {
      const w = new Writer();
      w.u32(length);
      w.raw(Buffer.alloc(FRAME_HEAD));
      expect(() => new FrameParser(() => {}).push(Buffer.from(w.done()))).toThrow(RangeError);
    }
  });

  it("can be taken back while they are written", () => {
    const w = new Writer(4);
    w.u32(1);
    w.str("gone");
    w.truncate(4);
    w.u8(9);
    expect([...w.done()]).toEqual([1, 0, 0, 0, 9]);
  });
});
