/** LAUNCH's header, for a monitor and for a launcher. @module @see docs/helper-protocol.md */
import type { LaunchRequest } from "./helper.ts";
import type { Writer } from "./wire.ts";

/** Appends it; the plan follows. */
export function encodeLaunch(w: Writer, { stdio, socketPath, exitPath, pidPath, exitReports }: Omit<LaunchRequest, "plan">): void {
  const { direct, log } = stdio;
  const bits = [stdio.tty, stdio.openStdin, stdio.stdinOnce, direct !== undefined, direct?.stdin, direct?.stdout, direct?.stderr, log !== undefined];
  w.u8(bits.reduce((all, bit, index) => all | (bit ? 1 << index : 0), 0));
  w.u16(Math.min(stdio.rows, 0xffff));
  w.u16(Math.min(stdio.columns, 0xffff));
  w.u32(stdio.attachGate);
  w.str(socketPath);
  w.str(exitPath);
  w.str(pidPath);
  w.str(direct?.token ?? "");
  w.bytes(direct?.detachKeys ?? new Uint8Array());
  w.str(log?.path ?? "");
  w.u64(BigInt(log?.maxBytes ?? 0));
  w.u32(log?.maxFiles ?? 1);
  w.u8((log?.hold === true ? 1 : 0) | (log?.exact === true ? 2 : 0));
  w.str(log?.attrs ?? "");
  w.strs(exitReports);
}
