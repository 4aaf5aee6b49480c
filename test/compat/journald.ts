/**
 * A systemd-journald of the test's own, in a mount namespace in which `/run/systemd/journal`, `/run/log/journal`, `/etc/machine-id` and its configuration are the test's.
 * An engine that is started there by {@link Journald.enter} finds it where it finds the host's.
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually, ok } from "./run.ts";
import { hasProgram } from "./daemon.ts";

const program = "/lib/systemd/systemd-journald";
const machineId = "0123456789abcdef0123456789abcdef";

const setUp = `
set -e
for directory in /run/systemd /run/log; do mount -t tmpfs tmpfs "$directory"; done
mkdir /run/systemd/journal
mount --bind "$0/machine-id" /etc/machine-id
mount --bind "$0/journald.conf" /etc/systemd/journald.conf
exec ${program}`;

export class Journald {
  /** Why none can be started here. */
  static readonly missing: string | undefined = !existsSync(program)
    ? "no systemd-journald"
    : ["journalctl", "unshare", "nsenter"].every(hasProgram)
      ? undefined
      : "no journalctl, unshare or nsenter";
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess) {
    this.#process = process;
  }

  /** `work`: an existing directory. */
  static async start(work: string): Promise<Journald> {
    for (const directory of ["/run/systemd", "/run/log", "/etc/systemd"]) mkdirSync(directory, { recursive: true });
    for (const path of ["/etc/machine-id", "/etc/systemd/journald.conf"]) if (!existsSync(path)) writeFileSync(path, ""); // something to be mounted on
    writeFileSync(join(work, "machine-id"), `${machineId}\n`);
    // Nothing but what the engines send: neither the kernel's messages nor a limit of the rate.
    const settings = ["Storage=volatile", "ReadKMsg=no", "Audit=no", "RateLimitIntervalSec=0", "ForwardToWall=no", "ForwardToSyslog=no"];
    writeFileSync(join(work, "journald.conf"), ["[Journal]", ...settings, ""].join("\n"));
    const child = spawn("unshare", ["--mount", "--propagation", "private", "sh", "-c", setUp, work], { stdio: ["ignore", "ignore", "inherit"] });
    const journald = new Journald(child);
    await eventually(
      () => {
        if (child.exitCode !== null) throw new Error(`systemd-journald ended with ${child.exitCode} while starting`);
        return existsSync(`/proc/${child.pid}/root/run/systemd/journal/socket`);
      },
      (there) => there,
    );
    return journald;
  }

  /** What an engine's command line begins with. */
  get enter(): readonly string[] {
    return ["nsenter", `--mount=/proc/${this.#process.pid}/ns/mnt`];
  }

  /** All entries with these fields, oldest first, as `journalctl -o json` has them: a value that is no text is a list of bytes. */
  async entries(...match: readonly string[]): Promise<Record<string, string | number[] | null>[]> {
    const text = await ok([...this.enter, "journalctl", "--no-pager", "--all", "-o", "json", ...match]);
    return text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Record<string, string>);
  }

  async stop(): Promise<void> {
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    await ended;
  }
}
