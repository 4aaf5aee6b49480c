/** "10m", "1.5g", "100kb", "5KiB" → bytes (1024 each), as docker/go-units; undefined when it is none. */
export function parseBytes(text: string): number | undefined {
  const [, number, unit] = /^([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)i?b?$/i.exec(text) ?? [];
  if (number === undefined) return undefined;
  return Math.floor(Number(number) * 1024 ** " kmgtp".indexOf((unit || " ").toLowerCase()));
}
