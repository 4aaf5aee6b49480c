/**
 * Signal names and numbers of Linux (x86-64 and arm64 agree), as `kill` and `--stop-signal` take them.
 * @module
 * @see signal(7)
 */

const names =
  "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS".split(
    " ",
  );
const aliases: Readonly<Record<string, string>> = { IOT: "ABRT", CLD: "CHLD", POLL: "IO", UNUSED: "SYS" };
const RTMIN = 34;
const RTMAX = 64;

/** 15 for "TERM", "SIGTERM", "sigterm" or "15"; also "RTMIN+3", "RTMAX-1". undefined when there is no such signal. */
export function signalNumber(signal: string): number | undefined {
  if (/^[0-9]+$/.test(signal)) {
    const number = Number(signal);
    return number >= 1 && number <= RTMAX ? number : undefined;
  }
  const name = signal.toUpperCase().replace(/^SIG/, "");
  const realtime = /^RT(MIN|MAX)(?:([+-])([0-9]{1,2}))?$/.exec(name);
  if (realtime) {
    const number = (realtime[1] === "MIN" ? RTMIN : RTMAX) + (realtime[2] === "-" ? -1 : 1) * Number(realtime[3] ?? 0);
    return number >= RTMIN && number <= RTMAX ? number : undefined;
  }
  const index = names.indexOf(aliases[name] ?? name);
  return index < 0 ? undefined : index + 1;
}

/** "SIGTERM" for 15, "SIGRTMIN+3" for 37; "signal 99" for a number that is none. */
export function signalName(number: number): string {
  const name = names[number - 1];
  if (name !== undefined) return `SIG${name}`;
  if (number >= RTMIN && number <= RTMAX) return number === RTMIN ? "SIGRTMIN" : number === RTMAX ? "SIGRTMAX" : `SIGRTMIN+${number - RTMIN}`;
  return `signal ${number}`;
}
