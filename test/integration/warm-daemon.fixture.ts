/** A daemon with roots of its own beside which `wherry-runtime` is warm. @module */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { wherryRuntime } from "./oci-runtime.fixture.ts";

export interface WarmDaemon {
  readonly root: string;
  readonly pid: number;
  /** For WHERRY_HOST. */
  readonly host: string;
  stop(): Promise<void>;
}

export async function startWarmDaemon(): Promise<WarmDaemon> {
  const root = mkdtempSync(join(tmpdir(), "wherry-warm-"));
  const execRoot = join(root, "run");
  mkdirSync(execRoot);
  const name = root.slice(-6).toLowerCase();
  const host = `unix://${execRoot}/wherry.sock`;
  const roots = ["--data-root", join(root, "data"), "--exec-root", execRoot, "--host", host];
  const daemon = spawn(join(dirname(wherryRuntime), "wherryd"), [...roots, "--bridge", `ww${name}`, "--cgroup-parent", `/wherry-warm-${name}`], {
    stdio: "ignore",
  });
  const gone = new Promise((resolve) => daemon.once("exit", resolve));
  const stop = async () => {
    daemon.kill("SIGTERM");
    await gone;
    rmSync(root, { recursive: true, force: true });
  };
  for (let tries = 0; !existsSync(join(execRoot, "oci/runtime.sock")); tries++) {
    if (tries > 600 || daemon.exitCode !== null) {
      await stop();
      throw new Error("the daemon does not listen for the runtime");
    }
    await sleep(50);
  }
  return { root, pid: daemon.pid ?? -1, host, stop };
}
