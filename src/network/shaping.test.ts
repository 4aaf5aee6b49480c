import { describe, expect, test } from "vitest";
import { parseRate, parseShaping, shapingMessages, shapingOfLabels } from "./shaping.ts";

const hex = (data: Uint8Array) => Buffer.from(data).toString("hex");

describe("what may be asked for", () => {
  test("rates are bits per second, as tc has them", () => {
    expect(["20mbit", "1Mbit", "8000", "2.5mbps", "1gbit", "1mibit"].map(parseRate)).toEqual([2_500_000, 125_000, 1000, 2_500_000, 125_000_000, 131_072]);
    expect([parseRate("0"), parseRate("unlimited")]).toEqual([undefined, undefined]);
    for (const bad of ["", "x", "1", "-5mbit", "20 mbit", "1tbit", "99999gbit"]) expect(() => parseRate(bad)).toThrow("invalid network rate");
  });

  test("directions, burst, latency and loss", () => {
    expect(parseShaping({ rate: "20mbit", egress: "1mbit", latency: "10ms", loss: "0.5%" })).toEqual({
      ingress: { rate: 2_500_000, burst: 50_000 },
      egress: { rate: 125_000, burst: 4600 },
      delayUs: 10_000,
      loss: 0.005,
    });
    expect(parseShaping({ ingress: "1mbit", burst: "64k" })).toMatchObject({ ingress: { burst: 65_536 }, egress: { rate: undefined } });
    for (const bad of [{ burst: "1" }, { latency: "5" }, { loss: "101%" }, { colour: "red" }]) expect(() => parseShaping(bad)).toThrow(/network/);
    expect(parseShaping(undefined)).toBeUndefined();
  });

  test("labels say the same", () => {
    expect(shapingOfLabels({ "wherry.network.rate": "1mbit", other: "x", "wherry.network.loss": "1%" })).toEqual({ rate: "1mbit", loss: "1%" });
    expect(shapingOfLabels({ other: "x" })).toBeUndefined();
  });
});

test("a token bucket, byte by byte", () => {
  const shaping = parseShaping({ rate: "20mbit" })!;
  const [message, ...more] = shapingMessages(7, shaping.ingress, shaping);
  expect(more).toEqual([]);
  expect(message?.type).toBe(36);
  expect(hex(message!.body)).toBe(
    "00000000" +
      "07000000" +
      "00000100" +
      "ffffffff" +
      "00000000" + // struct tcmsg: interface 7, 1:0 at the root
      "0800010074626600" + // "tbf"
      "34000280" +
      "28000100" +
      "00010000" +
      "00000000" +
      "a0252600" +
      "00".repeat(12) +
      "e0930400" +
      "00000000" +
      "00000000" + // rate 2500000, queue 300000
      "0800060050c30000", // burst 50000
  );
});

test("latency and loss come below the bucket, or alone", () => {
  const both = parseShaping({ rate: "1mbit", latency: "1ms", loss: "50%" })!;
  expect(shapingMessages(7, both.egress, both).map(({ body }) => hex(body.subarray(8, 16)))).toEqual(["00000100ffffffff", "0000020001000100"]);
  const alone = parseShaping({ latency: "1ms" })!;
  const [message] = shapingMessages(7, alone.egress, alone);
  expect(hex(message!.body)).toBe(`000000000700000000000200ffffffff000000000a0001006e6574656d0000001c000200093d0000e8030000${"00".repeat(16)}`);
});
