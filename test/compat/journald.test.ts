/** The log driver journald with a real systemd-journald: the entries that journalctl reads are dockerd's, field by field, and those of a newer docker. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasProgram, TestDaemon, whyNot } from "./daemon.ts";
import { Dockerd } from "./dockerd.ts";
import { busyboxArchive } from "./images.ts";
import { Journald } from "./journald.ts";
import { eventually, ok } from "./run.ts";

const reason = whyNot() ?? Journald.missing ?? (hasProgram("docker") ? undefined : "no docker client");
if (reason) console.warn(`journald: skipped: ${reason}`);

/** Written by these engines since 23, not by 20.10. */
const newer = [
  "CONTAINER_LOG_EPOCH",
  "CONTAINER_LOG_ORDINAL",
  "CONTAINER_PARTIAL_ID",
  "CONTAINER_PARTIAL_ORDINAL",
  "CONTAINER_PARTIAL_LAST",
  "SYSLOG_TIMESTAMP",
];

describe.skipIf(reason !== undefined)(`journald${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const work = mkdtempSync(join(tmpdir(), "wt-journald-"));
  let journald: Journald;
  let daemon: TestDaemon;
  let dockerd: Dockerd | undefined;
  const docker = (host: string, ...args: string[]): Promise<string> => ok(["docker", "-H", host, ...args]);

  beforeAll(async () => {
    journald = await Journald.start(work);
    daemon = new TestDaemon({ enter: journald.enter });
    if (Dockerd.missing === undefined) dockerd = new Dockerd(work, undefined, journald.enter);
    else console.warn(`journald: nothing to compare with: ${Dockerd.missing}`);
    await Promise.all([daemon.start(), dockerd?.start()]);
    const archive = busyboxArchive(work).path;
    for (const host of [daemon.host, ...(dockerd ? [dockerd.host] : [])]) await docker(host, "load", "-q", "-i", archive);
  });
  afterAll(async () => {
    expect(await daemon.stop()).toEqual([]);
    await dockerd?.stop();
    await journald.stop();
    rmSync(work, { recursive: true, force: true });
  });

  const script = [
    "echo out; sleep 0.2; echo err >&2; sleep 0.2",
    "head -c 40000 /dev/zero | tr '\\0' x; echo; sleep 0.2", // three parts
    "printf 'a\\033[1mb\\377\\n'; echo; sleep 0.2", // no text, and nothing
    "printf 'no end'",
  ].join("\n");

  /** What a container's lines have become, and what `logs` shows of them. */
  async function written(host: string, name: string): Promise<{ entries: Record<string, string | number[] | null>[]; logs: string }> {
    const options = ["tag={{.ImageName}}/{{.Name}}", "labels=com.example.team,_under", "env=STAGE", "env-regex=^X_"].flatMap((option) => ["--log-opt", option]);
    const labels = ["-l", "com.example.team=sea\nland", "-l", "_under=way", "-l", "other=no", "-e", "STAGE=prod", "-e", "X_1=2"];
    const run = ["run", "--name", name, "--network", "none", "--log-driver", "journald", ...options, ...labels, "busybox", "sh", "-c", script];
    await docker(host, ...run);
    const id = await docker(host, "inspect", "-f", "{{.Id}}", name);
    const entries = await eventually(
      () => journald.entries(`CONTAINER_ID_FULL=${id}`),
      (list) => list.length >= 8,
    );
    return { entries, logs: (await docker(host, "logs", name)).replace(/x{100,}/g, (text) => `${text.length} x`) };
  }

  /** Without what journald itself says of an entry, and with the container's names as such. */
  const own = (entry: Record<string, unknown>, leaveOut: readonly string[] = []): Record<string, unknown> =>
    Object.fromEntries(
      Object.entries(entry)
        .filter(([key]) => !key.startsWith("_") && !leaveOut.includes(key))
        .map(([key, value]) => [key, key === "CONTAINER_ID" ? "<short>" : key === "CONTAINER_ID_FULL" ? "<id>" : shortened(value)]),
    );
  const shortened = (value: unknown): unknown => (typeof value === "string" && value.length > 99 ? `${value.length} characters` : value);

  test("a line's fields, its priority by its stream, the parts of a long one", async () => {
    const { entries, logs } = await written(daemon.host, "web");
    const fixed = {
      CONTAINER_ID: "<short>",
      CONTAINER_ID_FULL: "<id>",
      CONTAINER_NAME: "web",
      CONTAINER_TAG: "busybox/web",
      SYSLOG_IDENTIFIER: "busybox/web",
      IMAGE_NAME: "busybox",
      COM_EXAMPLE_TEAM: "sea\nland",
      UNDER: "way",
      STAGE: "prod",
      X_1: "2",
    };
    const part = (MESSAGE: string) => ({ MESSAGE, PRIORITY: "6", CONTAINER_PARTIAL_MESSAGE: "true" });
    expect(entries.map((entry) => own(entry, newer))).toEqual(
      [
        { MESSAGE: "out", PRIORITY: "6" },
        { MESSAGE: "err", PRIORITY: "3" },
        part("16384 characters"),
        part("16384 characters"),
        { MESSAGE: "7232 characters", PRIORITY: "6" },
        { MESSAGE: [...Buffer.from("a\x1b[1mb\xff", "latin1")], PRIORITY: "6" },
        { MESSAGE: "", PRIORITY: "6" },
        part("no end"),
      ].map((entry) => ({ ...fixed, ...entry })),
    );
    expect(logs).toBe(`out\n40000 x\na\x1b[1mb\ufffd\n\nno end`);
  });

  test("what docker has added since: the line's own time, its place in the log, which part of which line", async () => {
    const entries = await journald.entries("CONTAINER_NAME=web");
    expect(entries.map((entry) => entry["CONTAINER_LOG_ORDINAL"])).toEqual(entries.map((_, i) => String(i + 1)));
    expect(new Set(entries.map((entry) => entry["CONTAINER_LOG_EPOCH"])).size).toBe(1);
    for (const entry of entries) expect(entry["SYSLOG_TIMESTAMP"]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
    const parts = entries.map((entry) => [entry["CONTAINER_PARTIAL_ORDINAL"], entry["CONTAINER_PARTIAL_LAST"]]);
    const whole = [undefined, undefined];
    expect(parts).toEqual([whole, whole, ["1", "false"], ["2", "false"], ["3", "true"], whole, whole, ["1", "false"]]);
    const ids = entries.map((entry) => entry["CONTAINER_PARTIAL_ID"]).filter((id) => id !== undefined);
    expect(ids).toHaveLength(4);
    expect(new Set(ids.slice(0, 3)).size).toBe(1);
    expect(new Set(ids).size).toBe(2);
  });

  test.skipIf(Dockerd.missing !== undefined)("the same entries as dockerd's", async () => {
    const theirs = await written(dockerd!.host, "web2");
    const ours = await written(daemon.host, "web2");
    expect(ours.entries.map((entry) => own(entry, newer))).toEqual(theirs.entries.map((entry) => own(entry, newer)));
    expect(theirs.logs).toBe(ours.logs.replace("\n\n", "\n")); // it does not read empty lines back from the journal
  });

  test("lines that are written while the daemon is away are there when it is back, once", async () => {
    const id = await docker(
      daemon.host,
      "run",
      "-d",
      "--network",
      "none",
      "--log-driver",
      "journald",
      "busybox",
      "sh",
      "-c",
      "while sleep 0.1; do echo $((i=i+1)); done",
    );
    const numbers = async () => (await journald.entries(`CONTAINER_ID_FULL=${id}`)).map((entry) => Number(entry["MESSAGE"]));
    await eventually(numbers, (list) => list.length >= 3);
    await daemon.kill("SIGKILL");
    const before = (await numbers()).length;
    await daemon.start();
    const seen = await eventually(numbers, (list) => list.length >= before + 5);
    expect([...new Set(seen)]).toEqual([...new Set(seen)].map((_, i) => i + 1)); // at most a batch twice: it was sent as the daemon ended
    await docker(daemon.host, "rm", "-f", id);
  });
});
