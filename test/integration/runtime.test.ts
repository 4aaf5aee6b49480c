import { afterAll, describe, expect, it } from "vitest";
import { probeHost } from "#linux/probe-host.ts";
import { Sandbox } from "./sandbox.ts";

const facts = await probeHost();
const box = await Sandbox.open(facts);
afterAll(() => box[Symbol.asyncDispose]());
const sh = (script: string) => ["sh", "-c", script];

describe("a default container", () => {
  it("runs", async () => {
    const result = await box.run({ args: sh("echo out; echo err >&2; exit 3") });
    expect(result).toMatchObject({ code: 3, stdout: "out\n", stderr: "err\n" });
  });
});
