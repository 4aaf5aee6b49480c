import { expect, it } from "vitest";
import { beyondCode, exitReason } from "./exit-reason.ts";

const ended = { code: 0, signal: 0, oomKilled: false, memoryLimit: 0, sentBy: undefined };

it.each([
  [{ code: 3 }, "exited 3"],
  [{ code: 0, sentBy: "wherry stop" }, "exited 0 after wherry stop"],
  [{ code: 3, oomKilled: true }, "exited 3, after a process ran out of memory"],
  [{ code: 137, signal: 9 }, "killed by SIGKILL"],
  [{ code: 137, signal: 9, sentBy: "wherry kill" }, "killed by SIGKILL (wherry kill)"],
  [{ code: 139, signal: 11 }, "killed by SIGSEGV"],
  [{ code: 168, signal: 40 }, "killed by signal 40"],
  [{ code: 137, signal: 9, oomKilled: true }, "out of memory"],
  [{ code: 137, signal: 9, oomKilled: true, memoryLimit: 64 << 20 }, "out of memory: limit 64 MiB"],
  [{ code: 137, signal: 9, oomKilled: true, memoryLimit: 1.5 * 2 ** 30, memoryPeak: 1000 }, "out of memory: limit 1.5 GiB, used 1000 bytes"],
  [{ code: 1, refused: ["mount", "bpf"] }, "exited 1; seccomp refused mount, bpf"],
])("%j", (exit, words) => {
  expect(exitReason({ ...ended, ...exit })).toBe(words);
});

it("what the exit code says already need not be said again", () => {
  expect(beyondCode("exited 3", 3)).toBeUndefined();
  expect(beyondCode("", 0)).toBeUndefined();
  expect(beyondCode("exited 0 after wherry stop", 0)).toBeUndefined();
  expect(beyondCode("exited 3 after wherry stop", 3)).toBe("exited 3 after wherry stop");
  expect(beyondCode("killed by SIGKILL", 137)).toBe("killed by SIGKILL");
});
