import { describe, expect, it } from "vitest";
import { findProgram, run, runStreaming } from "./program.ts";
import { isStaticProgram } from "./static-busybox.ts";

describe("running a program", () => {
  it("gives its output, and its lines as they come", async () => {
    const lines: string[] = [];
    expect(await run("sh", ["-c", "echo out; echo err >&2; printf last >&2"], { onLine: (line) => lines.push(line) })).toBe("out\n");
    expect(lines).toEqual(["err", "last"]);
    await run("sh", ["-c", "echo shown"], { report: true, onLine: (line) => lines.push(line) });
    expect(lines.at(-1)).toBe("shown");
  });

  it("says why it failed", async () => {
    await expect(run("sh", ["-c", "echo broken >&2; exit 3"])).rejects.toMatchObject({ code: "internal", message: "sh failed (exit code 3): broken" });
    await expect(run("sh", ["-c", "kill -9 $$"])).rejects.toMatchObject({ message: expect.stringContaining("SIGKILL") });
    await expect(run("/nonexistent", [])).rejects.toMatchObject({ code: "unavailable" });
  });

  it("ends it, with its children, when it is called off or nobody reads on", async () => {
    const cancel = new AbortController();
    const start = performance.now();
    setTimeout(() => cancel.abort(), 50);
    await expect(run("sh", ["-c", "sleep 60 & sleep 60"], { signal: cancel.signal })).rejects.toMatchObject({ code: "cancelled" });
    for await (const chunk of runStreaming("sh", ["-c", "while :; do echo x; done"])) {
      expect(chunk.byteLength).toBeGreaterThan(0);
      break;
    }
    expect(performance.now() - start).toBeLessThan(5_000);
  });

  it("finds programs wherever Debian puts them", async () => {
    expect(await findProgram("sh")).toMatch(/\/sh$/);
    expect(await findProgram("no-such-program")).toBeUndefined();
  });
});

describe("a static program", () => {
  it("is told from one that needs a loader, and from what is none", async () => {
    expect(await isStaticProgram(process.execPath)).toBe(false);
    expect(await isStaticProgram("/etc/passwd")).toBe(false);
    expect(await isStaticProgram("/nonexistent")).toBe(false);
  });
});
