import { constants } from "node:os";
import { describe, expect, it } from "vitest";
import { parseExitRecord } from "./exit-record.ts";
import { errnoMessage, errnoName, errnoNumber } from "./errno.ts";
import { signalName, signalNumber } from "./signals.ts";

describe("errno", () => {
  it("agrees with the system", () => {
    for (const [name, number] of Object.entries(constants.errno)) {
      expect(errnoNumber(name)).toBe(number);
      expect(errnoNumber(errnoName(number))).toBe(number);
    }
  });
  it("has Go's texts", () => {
    expect(errnoMessage(2)).toBe("no such file or directory");
    expect(errnoMessage("ENOTSUP")).toBe("operation not supported");
    expect(errnoMessage(4000)).toBe("error 4000");
    expect(errnoName(4000)).toBe("E4000");
    expect(errnoNumber("ENOSUCH")).toBeUndefined();
  });
});

describe("signals", () => {
  it("agree with the system", () => {
    for (const [name, number] of Object.entries(constants.signals)) {
      expect(signalNumber(name)).toBe(number);
      expect(signalNumber(signalName(number))).toBe(number);
    }
  });
  it.each([
    ["9", 9],
    ["kill", 9],
    ["SIGTERM", 15],
    ["RTMIN", 34],
    ["SIGRTMIN+3", 37],
    ["rtmax-1", 63],
    ["RTMIN+31", undefined],
    ["0", undefined],
    ["65", undefined],
    ["", undefined],
    ["SIG", undefined],
    ["TERM ", undefined],
  ])("%j is %s", (text, number) => {
    expect(signalNumber(text)).toBe(number);
  });
  it("have names", () => {
    expect([signalName(2), signalName(34), signalName(36), signalName(64), signalName(99)]).toEqual([
      "SIGINT",
      "SIGRTMIN",
      "SIGRTMIN+2",
      "SIGRTMAX",
      "signal 99",
    ]);
  });
});

describe("exit records", () => {
  it("are read, and what is none is refused", () => {
    expect(parseExitRecord('{"code":137,"signal":9,"atNs":"1795598562990100189","reports":["a\\n",null]}\n')).toEqual({
      code: 137,
      signal: 9,
      atNs: 1795598562990100189n,
      reports: ["a\n", undefined],
    });
    expect(() => parseExitRecord('{"code":1')).toThrow("not an exit record");
    expect(() => parseExitRecord("{}")).toThrow("not an exit record");
  });
});
