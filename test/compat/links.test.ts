/** `--link` on the default network: the other's address in /etc/hosts, also after it came back at another one, and docker's variables. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasProgram, TestDaemon, whyNot } from "./daemon.ts";
import { busyboxArchive } from "./images.ts";
import { eventually, ok, run } from "./run.ts";

const reason = whyNot() ?? (hasProgram("docker") ? undefined : "no docker client");
if (reason) console.warn(`links: skipped: ${reason}`);

describe.skipIf(reason !== undefined)(`links${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const work = mkdtempSync(join(tmpdir(), "wt-links-"));
  const daemon = new TestDaemon();
  const docker = (...args: string[]): Promise<string> => ok(["docker", "-H", daemon.host, ...args]);
  const addressOf = (name: string): Promise<string> => docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name);

  beforeAll(async () => {
    await daemon.start();
    await docker("load", "-q", "-i", busyboxArchive(work).path);
    await docker("run", "-d", "--name", "db", "--expose", "5432", "-e", "WORD=secret", "busybox", "sleep", "1000");
  });
  afterAll(async () => {
    expect(await daemon.stop()).toEqual([]);
    rmSync(work, { recursive: true, force: true });
  });

  test("the other is known by its alias, its name, and its variables", async () => {
    const address = await addressOf("db");
    const seen = await docker(
      "run",
      "--rm",
      "--name",
      "app",
      "--link",
      "db:store",
      "busybox",
      "sh",
      "-c",
      "cat /etc/hosts; ping -c 1 store >/dev/null && echo reached; env",
    );
    expect(seen).toMatch(new RegExp(`^${address}\tstore [0-9a-f]{12} db$`, "m"));
    expect(seen).toContain("reached");
    for (const entry of [
      `STORE_PORT=tcp://${address}:5432`,
      `STORE_PORT_5432_TCP_ADDR=${address}`,
      "STORE_PORT_5432_TCP_PORT=5432",
      "STORE_NAME=/app/store",
      "STORE_ENV_WORD=secret",
    ])
      expect(seen.split("\n")).toContain(entry);
  });

  test("it is found again at another address", async () => {
    await docker("run", "-d", "--name", "web", "--link", "db", "busybox", "sleep", "1000");
    const before = await addressOf("db");
    await docker("stop", "-t", "0", "db");
    await docker("run", "-d", "--name", "taker", "busybox", "sleep", "1000"); // takes the address that has become free
    await docker("start", "db");
    const now = await addressOf("db");
    expect(now).not.toBe(before);
    const hosts = await eventually(
      () => docker("exec", "web", "cat", "/etc/hosts"),
      (text) => text.includes(now),
    );
    expect(hosts).not.toMatch(new RegExp(`^${before}\t`, "m"));
  });

  test("what is not there or does not run cannot be linked to", async () => {
    const missing = await run(["docker", "-H", daemon.host, "create", "--link", "nobody", "busybox"]);
    expect(missing.stderr).toContain("could not get container for nobody");
    await docker("create", "--name", "idle", "busybox");
    const idle = await run(["docker", "-H", daemon.host, "run", "--name", "asks", "--link", "idle:i", "busybox", "true"]);
    expect(idle.stderr).toContain("Cannot link to a non running container: /idle AS /asks/i");
  });
});
