/** The helper under the tools that find what a run cannot: fuzzing, AddressSanitizer with UBSan, valgrind. */
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startHelper } from "#linux/helper-client.ts";
import { NO_SLOT } from "#linux/plan.ts";
import { child, drain, host, Lab, root, unframe, until } from "./native-fixture.ts";

const compiler = process.env.CC ?? "gcc";
const missing = (what: string, test: () => boolean): string | undefined => (test() ? undefined : `${what} is not installed`);
const works = (command: string, args: string[], input = ""): boolean => spawnSync(command, args, { input }).status === 0;

let directory: string;
beforeAll(() => {
  directory = mkdtempSync("/dev/shm/wherry-checked-");
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Runs a test, or skips it with the reason printed. */
function needs(reason: string | undefined, name: string, test: () => Promise<void>): void {
  if (reason === undefined) it(name, test);
  else {
    console.log(`skipped: ${name}: ${reason}`);
    it.skip(`${name} (${reason})`, test);
  }
}

const sources = readdirSync(join(root, "native"))
  .filter((name) => name.endsWith(".c") && name !== "fuzz.c")
  .map((name) => join(root, "native", name));
const compile = (out: string, flags: readonly string[]): string => {
  execFileSync(compiler, ["-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", "-fno-omit-frame-pointer", ...flags, ...sources, "-o", join(directory, out)], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  return join(directory, out);
};

const noSanitizer = missing("AddressSanitizer", () =>
  works(compiler, ["-fsanitize=address,undefined", "-x", "c", "-", "-o", "/dev/null"], "int main(void) { return 0; }"),
);
const noValgrind = missing("valgrind", () => works("valgrind", ["--version"]));

// Scripts of the build, in JavaScript without types.
const fuzz = (await import(new URL("../../scripts/fuzz.mjs", import.meta.url).href)) as {
  buildPlainFuzzer(directory: string, sanitize?: boolean): string;
  writeSeeds(directory: string): string[];
};

describe("the decoders", () => {
  needs(noSanitizer, "survive 3 seconds of mutated input under ASan and UBSan", async () => {
    const target = fuzz.buildPlainFuzzer(directory);
    const seed = String(Date.now() % 1_000_000);
    const run = spawnSync(target, ["3", seed, ...fuzz.writeSeeds(directory).slice(0, 64)], { encoding: "utf8" });
    expect({ seed, status: run.status, stderr: run.stderr }).toEqual({ seed, status: 0, stderr: "" });
    expect(Number(/^(\d+) inputs$/m.exec(run.stdout)?.[1])).toBeGreaterThan(1000);
  });

  needs(noValgrind, "survive a second of mutated input under valgrind", async () => {
    const target = fuzz.buildPlainFuzzer(directory, false);
    const run = spawnSync("valgrind", ["-q", "--error-exitcode=9", target, "1", "1", ...fuzz.writeSeeds(directory).slice(0, 64)], { encoding: "utf8" });
    expect({ status: run.status, stderr: run.stderr }).toEqual({ status: 0, stderr: "" });
  });
});

describe("launches", () => {
  needs(noSanitizer, "with terminal, attach, failure and file work, under ASan and UBSan", async () => {
    const lab = await Lab.open(compile("wherry-helper", ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]));
    try {
      expect(await lab.sh("echo out; echo err >&2; exit 3")).toMatchObject({ code: 3, stdout: "out\n", stderr: "err\n" });
      await expect(lab.launch({ argv: ["nosuch"] })).rejects.toMatchObject({ errno: "ENOENT" });
      const terminal = await lab.launch({ argv: ["sh"], stdio: { tty: true, rows: 20, columns: 60, openStdin: true } });
      const typed = await terminal.link.attach({ stdin: true, stdout: true, stderr: true, detachKeys: Buffer.from("\x10\x11") });
      await terminal.link.resize(30, 90);
      const screen = drain(typed);
      typed.write("stty size; exit 4\n");
      expect((await screen).toString()).toContain("30 90");
      expect((await terminal.link.exited).code).toBe(4);
      const cat = await lab.launch({
        argv: ["cat"],
        stdio: { openStdin: true, stdinOnce: true, log: { path: join(lab.directory, "rot"), maxBytes: 100_000, maxFiles: 3 } },
      });
      const socket = await cat.link.attach({ stdin: true, stdout: true, stderr: true, detachKeys: new Uint8Array() });
      const echoed = drain(socket);
      socket.end(Buffer.alloc(1_000_000, "0123456789\n<\xff"));
      expect(unframe(await echoed).stdout.length).toBe(1_000_000);
      expect((await cat.link.exited).code).toBe(0);
      const tree = await lab.helper.openTree(lab.rootfs);
      const meta = { mode: 0o644, uid: 1, gid: 2, mtimeNs: 5n, xattrs: [{ name: "trusted.x", value: Buffer.from("y") }] };
      await tree.openFile("a/b/c", 0);
      await tree.writeData(Buffer.alloc(3_000_000));
      await tree.skip(10);
      await tree.closeFile(meta);
      await tree.symlink("a/s", "b", meta);
      await tree.flush();
      let seen = 0;
      for await (const stat of tree.walk("")) seen += stat.path.length;
      expect(seen).toBeGreaterThan(10);
      for await (const chunk of (await tree.readFile("a/b/c")).data) seen += chunk.length;
      await tree.remove("a");
      await tree.flush();
      await tree.close();
      expect(lab.messages).toEqual([]);
    } finally {
      await lab.close();
    }
  });

  needs(noValgrind, "under valgrind", async () => {
    // valgrind 3.19 does not know the new mount calls, openat2 or clone3: this launch uses chroot and clone. The program itself is not followed.
    const program = compile("wherry-helper", ["-DWHERRY_UNSEALED"]);
    const wrapper = join(directory, "under-valgrind");
    writeFileSync(
      wrapper,
      `#!/bin/sh\nexec valgrind -q --vgdb=no --trace-children=yes --trace-children-skip='/bin/*' --log-file='${directory}/valgrind.%p' '${program}' "$@"\n`,
    );
    chmodSync(wrapper, 0o755);
    const lab = await Lab.open();
    const helper = await startHelper({ helperPath: wrapper, execRoot: directory, log: (line) => lab.messages.push(line) });
    try {
      const argv = ["sh", "-c", "cat; echo err >&2; exit 6"];
      const at = join(directory, "v");
      const link = await helper.launch({
        plan: {
          steps: [
            host({ op: "openat", dir: NO_SLOT, path: lab.rootfs, flags: 0o200000n, mode: 0, out: 1 }),
            host({ op: "clone", flags: 0x4000000n, cgroup: NO_SLOT }),
            host({ op: "signal", id: 1 }),
            child({ op: "await", id: 1 }),
            child({ op: "setsid" }),
            child({ op: "stdio", console: 0 }),
            child({ op: "chroot", dir: 1 }),
            child({ op: "close", slot: 1 }),
            child({ op: "exec", paths: ["/bin/sh"], argv, envp: [] }),
          ],
        },
        stdio: { tty: false, rows: 0, columns: 0, openStdin: true, stdinOnce: true, attachGate: 0, log: { path: `${at}.log`, maxBytes: 0, maxFiles: 1 } },
        socketPath: `${at}.sock`,
        exitPath: `${at}.exit`,
        pidPath: `${at}.pid`,
        exitReports: ["/proc/self/nosuch"],
      });
      const socket = await link.attach({ stdin: true, stdout: true, stderr: true, detachKeys: new Uint8Array() });
      const heard = drain(socket);
      socket.end("hello\n");
      expect(unframe(await heard)).toEqual({ stdout: "hello\n", stderr: "err\n" });
      expect((await link.exited).code).toBe(6);
    } finally {
      await helper.close();
      await lab.close();
    }
    const logs = () => readdirSync(directory).filter((name) => name.startsWith("valgrind."));
    await until("the processes have ended", () => logs().length >= 2);
    // What valgrind itself does not know, it says in lines that begin with "--"; what it has found, in lines that begin with "==".
    const found = logs().flatMap((name) =>
      readFileSync(join(directory, name), "utf8")
        .split("\n")
        .filter((line) => line.startsWith("==") && !/DW_|dwarf/i.test(line))
        .map((line) => `${basename(name)}: ${line}`),
    );
    expect(found).toEqual([]);
  });
});
