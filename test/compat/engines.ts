/**
 * Two engines for the same job: wherry, and Debian's dockerd where it is installed. What a client shows its user must be the same on both; where it is
 * not, the difference has an entry in `docs/compat.md`.
 * @module
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TestDaemon } from "./daemon.ts";
import { Dockerd } from "./dockerd.ts";
import { type ArchiveInfo, busyboxArchive } from "./images.ts";
import { ok } from "./run.ts";

export interface EngineUnderTest {
  readonly name: "wherry" | "dockerd";
  /** `unix:///…` */
  readonly host: string;
  readonly socket: string;
}

export interface Engines {
  readonly work: string;
  readonly archive: ArchiveInfo;
  readonly wherry: EngineUnderTest;
  /** Undefined: there is none here, and nothing to compare with. */
  readonly dockerd: EngineUnderTest | undefined;
  /** Stops both; what wherry left behind. */
  stop(): Promise<string[]>;
}

/** Both engines, each with the `busybox` image of this machine's busybox. */
export async function startEngines(prefix: string): Promise<Engines> {
  const work = mkdtempSync(join(tmpdir(), prefix));
  const archive = busyboxArchive(work);
  const daemon = new TestDaemon();
  const wherry = { name: "wherry", host: daemon.host, socket: daemon.socket } as const;
  const other = Dockerd.missing === undefined ? new Dockerd(work) : undefined;
  if (other === undefined) console.warn(`${prefix}: nothing to compare with: ${Dockerd.missing}`);
  await Promise.all([daemon.start(), other?.start()]);
  const stop = async (): Promise<string[]> => {
    const left = await daemon.stop();
    await other?.stop();
    rmSync(work, { recursive: true, force: true });
    return left;
  };
  try {
    for (const host of [daemon.host, ...(other === undefined ? [] : [other.host])]) {
      await ok(["docker", "load", "-q", "-i", archive.path], { env: { DOCKER_HOST: host } });
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return { work, archive, wherry, dockerd: other && { name: "dockerd", host: other.host, socket: other.host.replace("unix://", "") }, stop };
}

/** Replaces what differs between any two runs: ids, times, addresses, ports. */
export function normal(text: string): string {
  return text
    .replace(/\b(sha256:)?[0-9a-f]{64}\b/g, "<id>")
    .replace(/\b[0-9a-f]{12}\b/g, "<short>")
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, "<time>")
    .replace(/\b(172|192|10)\.\d+\.\d+\.\d+\b/g, "<ip>")
    .replace(/(0\.0\.0\.0|:::|\[::\]:|127\.0\.0\.1):?\d+->/g, "$1:<port>->");
}
