/** Lines of a progress stream, and Docker's bar. @module */

export interface ProgressLine {
  status?: string;
  stream?: string;
  id?: string;
  progress?: string;
  progressDetail?: { current?: number; total?: number };
  aux?: unknown;
  error?: string;
  errorDetail?: { message: string; code?: number };
}

/** `[====>      ]  1.2MB/3MB`, the text that old clients print as it is. */
export function progressBar(current: number, total: number): string {
  if (total <= 0) return decimalSize(current).padStart(8);
  const done = Math.min(50, Math.floor((current / total) * 50));
  const bar = done === 50 ? `${"=".repeat(50)}>` : `${"=".repeat(done)}>${" ".repeat(49 - done)}`;
  return `[${bar}]  ${decimalSize(current).padStart(6)}/${decimalSize(total)}`;
}

/** `1.234MB`: four digits, units of 1000, as docker prints sizes. */
export function decimalSize(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${Number(value.toPrecision(4))}${units[unit]}`;
}

/** The line that ends a stream which failed after its first line. */
export function errorLine(message: string, code?: number): ProgressLine {
  return { errorDetail: code === undefined ? { message } : { message, code }, error: message };
}
