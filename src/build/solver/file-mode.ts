import { EngineError } from "#core/errors.ts";

const classes: Readonly<Record<string, number>> = { u: 0o4700, g: 0o2070, o: 0o1007, a: 0o7777 };
const bits: Readonly<Record<string, number>> = { r: 0o444, w: 0o222, x: 0o111, s: 0o6000, t: 0o1000 };

/** `--chmod`: `755`, `0644`, or `u=rwX,go=rX`; what makes the new mode of the old. @throws EngineError "invalid" @see chmod(1) */
export function parseChmod(text: string): (mode: number, isDirectory: boolean) => number {
  if (/^(0o?)?[0-7]{1,4}$/.test(text)) {
    const mode = Number.parseInt(text.replace(/^0o/, ""), 8);
    return () => mode;
  }
  const clauses = text.split(",").map((clause) => {
    const match = /^([ugoa]*)([-+=])([rwxXst]*)$/.exec(clause);
    if (match === null)
      throw new EngineError("invalid", `invalid chmod parameter: '${text}'. it should be octal string and between 0 and 07777, or symbolic as u=rwX,go=rX`);
    const [, who = "", action = "=", what = ""] = match;
    return { mask: [...(who === "" ? "a" : who)].reduce((mask, c) => mask | classes[c]!, 0), action, what };
  });
  return (mode, isDirectory) =>
    clauses.reduce((at, { mask, action, what }) => {
      const executable = isDirectory || (at & 0o111) !== 0;
      const set = [...what].reduce((sum, c) => sum | (c === "X" ? (executable ? 0o111 : 0) : bits[c]!), 0) & mask;
      if (action === "+") return at | set;
      return action === "-" ? at & ~set : (at & ~mask) | set;
    }, mode);
}
