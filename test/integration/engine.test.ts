import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestEngine } from "./engine-setup.ts";

describe.skipIf(process.getuid?.() !== 0)("engine", () => {
  let t: TestEngine;
  beforeAll(async () => {
    t = await TestEngine.open();
  });
  afterAll(() => t?.[Symbol.asyncDispose]());

  test("runs a program and says how it ended", async () => {
    const { id, code, out, err } = await t.run(["sh", "-c", "echo hi; echo oops >&2; exit 3"]);
    expect({ code, out, err }).toEqual({ code: 3, out: "hi\n", err: "oops\n" });
    expect(t.engine.containers.get(id).state).toMatchObject({ status: "exited", exitCode: 3, reason: "exited 3", pid: 0, error: "" });
  });
});
