import { describe, expect, it } from "vitest";
import { fromGoFileMode, goFileMode } from "./go-file-mode.ts";

describe("modes in X-Docker-Container-Path-Stat", () => {
  // As dockerd 20.10 gives them.
  it.each([
    ["dir", 0o755, 2147484141],
    ["symlink", 0o777, 134218239],
    ["file", 0o644, 420],
  ] as const)("%s %o", (type, mode, expected) => {
    expect(goFileMode({ type, mode })).toBe(expected);
    expect(fromGoFileMode(expected)).toEqual({ type, mode });
  });

  it("keeps setuid, setgid and sticky where Go has them", () => {
    expect(goFileMode({ type: "file", mode: 0o4755 })).toBe(2 ** 23 + 0o755);
    expect(goFileMode({ type: "dir", mode: 0o3777 })).toBe(2 ** 31 + 2 ** 22 + 2 ** 20 + 0o777);
    expect(goFileMode({ type: "char", mode: 0o666 })).toBe(2 ** 26 + 2 ** 21 + 0o666);
  });
});
