/**
 * What seccomp filters have refused, from the kernel's log. A filter that is installed with SECCOMP_FILTER_FLAG_LOG leaves an audit line for each call that
 * it did not allow; the line names the audit session, which a container's processes share and nobody else has.
 * @see seccomp(2), https://docs.kernel.org/userspace-api/seccomp_filter.html, docs/adr/0016-seccomp-audit.md
 * @module
 */
import { open } from "node:fs/promises";
import { constants } from "node:fs";
import { EngineError, errnoOf } from "#core/errors.ts";
import { type SyscallArch, syscallNumbers } from "./bpf/syscalls.ts";

const tables: Readonly<Record<string, SyscallArch>> = { c000003e: "x86_64", "40000003": "i386", c00000b7: "aarch64", "40000028": "arm" };
const X32 = 0x40000000;
/** A record of /dev/kmsg is shorter. */
const RECORD = 8192;
/** Not more than so many records of the ring are read. */
const MAX_RECORDS = 200_000;

/** A call's name, or "system call 1000". */
function nameOf(arch: string, number: number): string {
  const x32 = arch === "c000003e" && number >= X32;
  const table = x32 ? "x32" : tables[arch];
  const plain = x32 ? number - X32 : number;
  const found = table === undefined ? undefined : [...syscallNumbers(table)].find(([, known]) => known === plain)?.[0];
  return found ?? `system call ${number}`;
}

/** The refused call that a line tells of, if it is of this session. */
export function refusedCall(line: string, session: string): string | undefined {
  if (!line.includes("type=1326 ")) return undefined;
  const field = (name: string) => new RegExp(` ${name}=([0-9a-fx]+)`).exec(line)?.[1];
  const [arch, number] = [field("arch"), field("syscall")];
  return field("ses") === session && arch !== undefined && number !== undefined ? nameOf(arch, Number(number)) : undefined;
}

/** Names of the calls that were refused in an audit session, in their order, each once. Throws EngineError "unavailable" when the log cannot be read. */
export async function refusedCalls(session: string): Promise<string[]> {
  const names = new Set<string>();
  try {
    await using log = await open("/dev/kmsg", constants.O_RDONLY | constants.O_NONBLOCK);
    const buffer = Buffer.alloc(RECORD);
    for (let n = 0; n < MAX_RECORDS; n++) {
      const line = await nextRecord(log, buffer);
      if (line === undefined) break;
      const name = refusedCall(line, session);
      if (name !== undefined) names.add(name);
    }
  } catch (cause) {
    throw new EngineError("unavailable", `the kernel's log cannot be read: ${(cause as Error).message}`, { cause });
  }
  return [...names];
}

/** undefined at the end of the log; "" for a record that was overwritten before we came to it. */
async function nextRecord(log: import("node:fs/promises").FileHandle, buffer: Buffer): Promise<string | undefined> {
  try {
    const { bytesRead } = await log.read(buffer, 0, RECORD, null);
    return bytesRead === 0 ? undefined : buffer.toString("utf8", 0, bytesRead);
  } catch (error) {
    if (errnoOf(error) === "EAGAIN") return undefined;
    if (errnoOf(error) === "EPIPE") return "";
    throw error;
  }
}
