/** Sizes as docker takes them: "64m", "1.5GiB", "512". @module */

const units: Readonly<Record<string, number>> = { k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40, p: 2 ** 50 };

/** Bytes, powers of 1024. Throws Error with docker's reason. @see https://github.com/docker/go-units size.go */
export function parseBytes(text: string): number {
  const match = /^([0-9. ]*[0-9. ])([^0-9. ]*)$/.exec(text);
  if (/^ *-/.test(text)) throw new Error(`invalid size: '${text}'`);
  if (match === null) {
    if (/[0-9. ]/.test(text)) throw new Error(`strconv.ParseFloat: parsing ${JSON.stringify(text.replace(/[^0-9. ]*$/, ""))}: invalid syntax`);
    throw new Error(`invalid size: '${text}'`);
  }
  const [, digits, suffix] = match as unknown as [string, string, string];
  const amount = digits.endsWith(" ") ? digits.slice(0, -1) : digits;
  if (!/^([0-9]+\.?[0-9]*|\.[0-9]+)$/.test(amount)) throw new Error(`strconv.ParseFloat: parsing ${JSON.stringify(amount)}: invalid syntax`);
  const value = Number(amount) * multiplier(suffix);
  if (!Number.isSafeInteger(Math.trunc(value))) throw new Error(`invalid size: '${text}'`);
  return Math.trunc(value);
}

function multiplier(suffix: string): number {
  if (suffix === "") return 1;
  const lower = suffix.toLowerCase();
  if (lower === "b") return 1;
  const unit = units[lower[0]!];
  if (unit === undefined || !/^.(b|ib)?$/.test(lower)) throw new Error(`invalid suffix: '${suffix.length > 3 ? suffix : lower}'`);
  return unit;
}

/** As {@link parseBytes}; -1 = no limit (`--memory-swap`). */
export function parseSwapBytes(text: string): number {
  return text === "-1" ? -1 : parseBytes(text);
}
