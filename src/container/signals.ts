/** Signals as Docker's API takes them: "KILL", "SIGKILL", "9". @module */
import { constants } from "node:os";
import { EngineError } from "#core/errors.ts";

const SIGRTMIN = 34;
const SIGRTMAX = 64;

/** @throws EngineError "invalid" with Docker's text: `invalid signal: X` */
export function parseSignal(text: string): number {
  const invalid = () => new EngineError("invalid", `invalid signal: ${text}`);
  if (/^[0-9]{1,3}$/.test(text)) {
    const number = Number(text);
    if (number < 1 || number > SIGRTMAX) throw invalid();
    return number;
  }
  const name = text.toUpperCase().replace(/^SIG/, "");
  const [, edge, sign, offset] = /^RT(MIN|MAX)(?:([+-])([0-9]{1,2}))?$/.exec(name) ?? [];
  if (edge !== undefined) {
    const number = (edge === "MIN" ? SIGRTMIN : SIGRTMAX) + (sign === "-" ? -1 : 1) * Number(offset ?? 0);
    if (number < SIGRTMIN || number > SIGRTMAX) throw invalid();
    return number;
  }
  const number = (constants.signals as Record<string, number>)[`SIG${name}`];
  if (number === undefined) throw invalid();
  return number;
}
