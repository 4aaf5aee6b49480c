/** Values as Go prints them. @module @see https://pkg.go.dev/fmt */

/** A value with fields that are computed when asked for: a row of `ps` and its like. */
export interface Fielded {
  readonly [fielded]: true;
  /** undefined: there is no such field. A function takes arguments (`.Label "x"`). */
  field(name: string): unknown;
  /** For `json`. */
  toJSON(): unknown;
}

/** Marks {@link Fielded}. */
export const fielded: unique symbol = Symbol("fielded");

export function isFielded(value: unknown): value is Fielded {
  return typeof value === "object" && value !== null && fielded in value;
}

export function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !isFielded(value);
}

/** `%v`. */
export function goText(value: unknown): string {
  if (value === undefined || value === null) return "<nil>";
  if (typeof value === "number") return goNumber(value);
  if (Array.isArray(value)) return `[${value.map(goText).join(" ")}]`;
  if (isFielded(value)) return goText(value.toJSON());
  if (isMap(value))
    return `map[${Object.keys(value)
      .sort()
      .map((key) => `${key}:${goText(value[key])}`)
      .join(" ")}]`;
  return String(value);
}

function goNumber(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < 1e21) return String(value);
  return goFloat(value, "g", -1);
}

/** `%e %f %g`; precision -1 = as many digits as needed. */
function goFloat(value: number, verb: string, precision: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
  const exponent = (text: string) => text.replace(/e([+-])(\d)$/, "e$10$2");
  if (verb === "f" || verb === "F") return value.toFixed(precision < 0 ? 6 : precision);
  if (verb === "e" || verb === "E") return exponent(value.toExponential(precision < 0 ? 6 : precision));
  const digits = precision < 0 ? value.toExponential() : value.toExponential(Math.max(precision, 1) - 1);
  const power = Number(digits.slice(digits.indexOf("e") + 1));
  if (power < -4 || power >= (precision < 0 ? 21 : Math.max(precision, 1))) return exponent(digits.replace(/\.?0+e/, "e"));
  return String(Number(digits));
}

/** `%q` and Go's quoting in messages. */
export function goQuote(text: string): string {
  return JSON.stringify(text).replace(/[\u007f-\u009f]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Go's fmt.Sprintf for the verbs that templates use. */
export function sprintf(format: string, args: readonly unknown[]): string {
  let next = 0;
  let text = format.replace(
    /%([-+# 0]*)(\*|\d+)?(?:\.(\*|\d+)?)?(.)?/gu,
    (all, flags: string, width: string | undefined, precision: string | undefined, verb: string | undefined) => {
      if (verb === undefined) return "%!(NOVERB)";
      if (verb === "%") return "%";
      const star = (given: string | undefined) => (given === "*" ? Number(args[next++]) : given === undefined ? undefined : Number(given));
      const wide = star(width);
      const exact = star(precision) ?? (all.includes(".") ? 0 : undefined);
      if (next >= args.length) return `%!${verb}(MISSING)`;
      return pad(verbText(verb, args[next++], flags, exact), wide ?? 0, flags, verb);
    },
  );
  if (next < args.length)
    text += `%!(EXTRA ${args
      .slice(next)
      .map((a) => `${typeName(a)}=${goText(a)}`)
      .join(", ")})`;
  return text;
}

function typeName(value: unknown): string {
  if (typeof value === "number") return Number.isInteger(value) ? "int" : "float64";
  if (typeof value === "boolean") return "bool";
  return typeof value;
}

function pad(text: string, width: number, flags: string, verb: string): string {
  if (text.length >= width) return text;
  if (flags.includes("-")) return text.padEnd(width);
  if (!flags.includes("0") || !"dxXofgeEGb".includes(verb)) return text.padStart(width);
  const sign = /^[+-]/.exec(text)?.[0] ?? "";
  return sign + text.slice(sign.length).padStart(width - sign.length, "0");
}

function verbText(verb: string, value: unknown, flags: string, precision: number | undefined): string {
  const wrong = () => `%!${verb}(${typeName(value)}=${goText(value)})`;
  const signed = (text: string) => (flags.includes("+") && !text.startsWith("-") ? `+${text}` : text);
  switch (verb) {
    case "v":
      return goText(value);
    case "s": {
      if (typeof value === "number" || typeof value === "boolean") return wrong();
      return precision === undefined ? goText(value) : [...goText(value)].slice(0, precision).join("");
    }
    case "q":
      return typeof value === "string" ? goQuote(value) : Array.isArray(value) ? `[${value.map((v) => goQuote(String(v))).join(" ")}]` : wrong();
    case "t":
      return typeof value === "boolean" ? String(value) : wrong();
    case "d":
      return typeof value === "number" && Number.isInteger(value) ? signed(String(value)) : wrong();
    case "x":
    case "X": {
      const text = typeof value === "number" ? value.toString(16) : typeof value === "string" ? Buffer.from(value).toString("hex") : wrong();
      return verb === "X" ? text.toUpperCase() : text;
    }
    case "o":
    case "b":
      return typeof value === "number" ? value.toString(verb === "o" ? 8 : 2) : wrong();
    case "c":
      return typeof value === "number" ? String.fromCodePoint(value) : wrong();
    case "f":
    case "F":
    case "e":
    case "E":
    case "g":
    case "G":
      return typeof value === "number" ? signed(goFloat(value, verb.toLowerCase(), precision ?? (verb.toLowerCase() === "g" ? -1 : 6))) : wrong();
    case "T":
      return typeName(value);
    default:
      return wrong();
  }
}
