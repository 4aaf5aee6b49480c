/** How the API is served: TCP with mutual TLS to docker's own client, and a socket that systemd has opened. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { certificates, freePort } from "./certificates.ts";
import { hasProgram, httpCall, TestDaemon, wherrydPath, whyNot } from "./daemon.ts";
import { busyboxArchive } from "./images.ts";
import { cleanEnv, eventually, ok, run } from "./run.ts";

const reason = whyNot() ?? (hasProgram("docker") ? undefined : "no docker client") ?? (hasProgram("openssl") ? undefined : "no openssl");
if (reason) console.warn(`serving: skipped: ${reason}`);

describe.skipIf(reason !== undefined)(`serving${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const work = mkdtempSync(join(tmpdir(), "wt-serve-"));
  const pem = (name: string): string => join(work, `${name}.pem`);
  let daemon: TestDaemon;
  let port: number;

  beforeAll(async () => {
    certificates(work);
    port = await freePort();
    const tls = ["--tlsverify", "--tlscacert", pem("ca"), "--tlscert", pem("server"), "--tlskey", pem("server-key")];
    daemon = new TestDaemon({ args: ["--host", `tcp://127.0.0.1:${port}`, ...tls] });
    await daemon.start();
  });
  afterAll(async () => {
    expect(await daemon.stop()).toEqual([]);
    rmSync(work, { recursive: true, force: true });
  });

  const docker = (...args: string[]): readonly string[] => ["docker", "-H", `tcp://127.0.0.1:${port}`, ...args];
  const client = (): readonly string[] => ["--tlsverify", "--tlscacert", pem("ca"), "--tlscert", pem("client"), "--tlskey", pem("client-key")];

  test("docker's client with a certificate works, streams and half-closed input too", async () => {
    // The unix socket answers a moment before the other listens.
    const version = () => run(docker(...client(), "version", "--format", "{{.Server.Version}}"));
    expect((await eventually(version, ({ code }) => code === 0)).stdout).toMatch(/^\d/);
    await ok(["docker", "-H", daemon.host, "load", "-q", "-i", busyboxArchive(work).path]);
    expect(await ok(docker(...client(), "run", "-i", "--rm", "busybox", "cat"), { input: "over TLS\n" })).toBe("over TLS");
  });

  test("without a certificate nobody gets in", async () => {
    const bare = await run(docker("--tls", "--tlscacert", pem("ca"), "version"));
    expect(bare.code).not.toBe(0);
    const plain = await run(["docker", "-H", `tcp://127.0.0.1:${port}`, "version"]);
    expect(plain.code).not.toBe(0);
  });

  test("a daemon listens on the socket that was opened for it", async () => {
    const other = new TestDaemon();
    const path = join(work, "activated.sock");
    // What systemd does: a listening socket as descriptor 3, and the pid of the program that is to have it.
    const starter = [
      "import os, socket, sys",
      "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(16)",
      "os.dup2(s.fileno(), 3); os.set_inheritable(3, True)",
      "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))",
      "os.execv(sys.argv[2], sys.argv[2:])",
    ].join("\n");
    const roots = ["--data-root", other.dataRoot, "--exec-root", other.execRoot, "--bridge", other.bridge, "--cgroup-parent", other.cgroupParent];
    const child = spawn("python3", ["-c", starter, path, wherrydPath, "-H", "fd://", ...roots], { env: cleanEnv(), stdio: "ignore" });
    try {
      const ping = () =>
        httpCall(path, "GET", "/_ping").then(
          ({ text }) => text,
          () => "",
        );
      expect(await eventually(ping, (text) => text === "OK")).toBe("OK");
    } finally {
      const exited = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await exited;
      await other.stop();
    }
  });
});
