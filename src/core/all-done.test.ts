import { expect, test } from "vitest";
import { allDone } from "./all-done.ts";

test("a failure is told when the rest has ended, and the first of several", async () => {
  let ended = false;
  const slow = new Promise<void>((resolve) =>
    setTimeout(() => {
      ended = true;
      resolve();
    }, 20),
  );
  await expect(allDone([slow, Promise.reject(new Error("first")), Promise.reject(new Error("second"))])).rejects.toThrow("first");
  expect(ended).toBe(true);
  await allDone([Promise.resolve(1), Promise.resolve("2")]);
});
