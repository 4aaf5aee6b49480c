/** Columns that line up: Go's text/tabwriter as docker uses it (at least 10 wide, 3 spaces between). @module */

const usualMinWidth = 10;
const padding = 3;

/** Width in a terminal's columns, counted as Go does: one per code point. */
function widthOf(text: string): number {
  let width = 0;
  for (const _ of text) width++;
  return width;
}

/**
 * Text with tabs to text with spaces. A column is a run of lines that have a tab-ended cell there; each run has a width of its own. The last cell of
 * a line is not padded.
 */
export function alignColumns(text: string, minWidth: number = usualMinWidth): string {
  const lines = text.split("\n").map((line) => line.split("\t"));
  const widths: number[][] = lines.map(() => []);
  for (let start = 0; start < lines.length; ) start = block({ lines, widths, minWidth }, start, lines.length, 0);
  return lines
    .map((cells, row) => cells.map((cell, i) => (i < cells.length - 1 ? cell + " ".repeat(widths[row]![i]! - widthOf(cell)) : cell)).join(""))
    .join("\n");
}

interface Grid {
  readonly lines: readonly string[][];
  readonly widths: number[][];
  readonly minWidth: number;
}

/** Sets the widths of the block of lines from `start` that have column `column`; returns the first line after it. */
function block(grid: Grid, start: number, end: number, column: number): number {
  const { lines, widths, minWidth } = grid;
  if (lines[start]!.length - 1 <= column) return start + 1;
  let stop = start;
  let width = minWidth;
  while (stop < end && lines[stop]!.length - 1 > column) {
    width = Math.max(width, widthOf(lines[stop]![column]!) + padding);
    stop++;
  }
  for (let row = start; row < stop; row++) widths[row]![column] = width;
  for (let row = start; row < stop; ) row = block(grid, row, stop, column + 1);
  return stop;
}
