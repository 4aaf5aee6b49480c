/** How much memory a container has used at most. @module */

/** Bytes, from the texts of the exit reports: the one that is a single number (v1 memory.max_usage_in_bytes, v2 memory.peak, which Linux has since 5.19). */
export function memoryPeak(reports: readonly (string | undefined)[]): number | undefined {
  const text = reports.find((report) => report !== undefined && /^[0-9]+\n?$/.test(report));
  return text === undefined ? undefined : Number(text);
}
