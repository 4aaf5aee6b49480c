import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

let dist: string;
beforeEach(() => {
  dist = mkdtempSync(join(tmpdir(), "wherry-load-"));
  copyFileSync(join(import.meta.dirname, "../../dist/load-program.cjs"), join(dist, "load-program.cjs"));
});
afterEach(() => rmSync(dist, { recursive: true, force: true }));

/** A program of a package that consists of nothing else. */
function install(body: string, options = ""): void {
  mkdirSync(join(dist, "programs"), { recursive: true });
  writeFileSync(join(dist, "programs/p-1.cjs"), `(function (exports, require, module, wherryUrl) {${body}\n})`);
  writeFileSync(join(dist, "p.cjs"), `require("./load-program.cjs").loadProgram(__filename, "programs/p-1.cjs"${options});\n`);
}
const run = (...flags: string[]) => execFileSync(process.execPath, [...flags, join(dist, "p.cjs")], { encoding: "utf8", env: { PATH: process.env["PATH"] } });
const kept = () => readdirSync(join(dist, "compiled"));

describe("a program of the package", () => {
  it("knows where it is, and what there is to require", () => {
    install(`console.log(wherryUrl.endsWith("/p.cjs"), require("node:path").sep, require("./load-program.cjs").loadProgram.name)`);
    expect(run()).toBe("true / loadProgram\n");
  });

  it("is compiled once: later runs take what the first has kept", () => {
    install(`console.log("once")`);
    expect(run()).toBe("once\n");
    expect(kept()).toHaveLength(1);
    // Shown by code that is no more: V8 compares lengths, which is why a bundle's name has its digest.
    install(`console.log("gone")`);
    expect(run()).toBe("once\n");
    expect(kept()).toHaveLength(1);
  });

  it("is compiled anew for other flags of V8, and both are kept", () => {
    install(`console.log("hi")`);
    run();
    expect(run("--max-semi-space-size=2")).toBe("hi\n");
    expect(kept()).toHaveLength(2);
  });

  it("is compiled anew when what was kept is cut short, and that is mended", () => {
    install(`console.log("hi")`);
    run();
    const file = join(dist, "compiled", kept()[0]!);
    const { size } = statSync(file);
    for (const length of [0, 20, size - 1]) {
      truncateSync(file, length);
      expect(run()).toBe("hi\n");
      expect([statSync(file).size, kept()]).toEqual([expect.closeTo(size, -3), [expect.any(String)]]);
    }
  });

  it("runs where nothing can be kept", () => {
    install(`console.log("hi")`);
    writeFileSync(join(dist, "compiled"), "");
    expect(run()).toBe("hi\n");
    expect(readFileSync(join(dist, "compiled"), "utf8")).toBe("");
  });

  it("keeps what it has run in its first seconds, when it goes on", () => {
    install(`setTimeout(() => console.log(require("node:fs").readdirSync(new URL("compiled", wherryUrl)).length), 3500)`, ", { stays: true }");
    expect(run()).toBe("1\n");
  });

  it("is a thread, too", () => {
    install(
      `const { Worker, isMainThread, threadId } = require("node:worker_threads"); if (isMainThread) new Worker(new URL(wherryUrl)); else console.log("thread", threadId)`,
    );
    expect(run()).toBe("thread 1\n");
    expect(run()).toBe("thread 1\n");
    expect(kept()).toHaveLength(1);
  });
});
