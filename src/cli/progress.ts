/** NDJSON progress (pull, load, import, bootstrap) for people: lines that move on a terminal, plain lines elsewhere. @module */
import type { Writable } from "node:stream";
import { decodeLines } from "#api/types/ndjson.ts";
import { decimalSize, progressBar, type ProgressLine } from "#api/types/progress.ts";
import type { CliIo } from "./io.ts";
import { write } from "./output.ts";

export interface ProgressOptions {
  readonly io: CliIo;
  /** Where it goes, if not to stdout, and whether that is a terminal. */
  readonly output?: Writable;
  readonly terminal?: boolean;
  /** Print nothing; errors still throw. */
  readonly quiet?: boolean;
  readonly onAux?: (aux: unknown) => void;
}

/** Prints the stream to its end. Throws Error with the daemon's message when a line says so. */
export async function renderProgress(body: AsyncIterable<Uint8Array>, options: ProgressOptions): Promise<void> {
  const rows = new Map<string, number>(); // id → how many rows from the top
  const pace = new Pace();
  for await (const value of decodeLines(body)) {
    const line = value as ProgressLine; // the shape of every progress stream
    if (line.error !== undefined || line.errorDetail !== undefined) throw new Error(line.errorDetail?.message ?? line.error);
    if (line.aux !== undefined) options.onAux?.(line.aux);
    else if (options.quiet !== true) await show(line, rows, pace, options);
  }
}

async function show(
  line: ProgressLine,
  rows: Map<string, number>,
  pace: Pace,
  { io, output = io.stdout, terminal = io.isTty.stdout }: ProgressOptions,
): Promise<void> {
  if (line.stream !== undefined) return write(output, line.stream);
  if (line.status === undefined) return;
  const plain = barOf(line, (io.size()?.columns ?? 80) < 110);
  const bar = terminal && plain !== "" ? `${plain}${pace.of(line, performance.now())}` : plain;
  const id = line.id ?? "";
  const text = `${id === "" ? "" : `${id}: `}${line.status}`;
  if (!terminal) {
    // Without a terminal only changes of state are worth a line.
    if (bar === "") await write(output, `${text}\n`);
    return;
  }
  if (id === "") {
    rows.clear();
    return write(output, `${text}\n`);
  }
  const known = rows.get(id);
  if (known === undefined) {
    rows.set(id, rows.size);
    return write(output, `${text}${bar === "" ? "" : ` ${bar}`}\n`);
  }
  const up = rows.size - known;
  await write(output, `\u001b[${up}A\u001b[2K\r${text}${bar === "" ? "" : ` ${bar}`}\u001b[${up}B\r`);
}

function barOf({ progressDetail, progress }: ProgressLine, narrow: boolean): string {
  const { current, total } = progressDetail ?? {};
  if (current === undefined || (current === 0 && (total ?? 0) === 0)) return progress ?? "";
  const bar = progressBar(current, total ?? 0);
  return narrow ? bar.slice(bar.indexOf("]") + 1).trim() : bar;
}

/** How fast something goes, and how long it will take: over what came since its state began. */
export class Pace {
  readonly #begun = new Map<string, { readonly status: string; readonly atMs: number; readonly bytes: number }>();

  /** `  12.3MB/s 4s`; "" in the first half second, and where there is nothing to say. */
  of({ id = "", status = "", progressDetail }: ProgressLine, nowMs: number): string {
    const { current, total } = progressDetail ?? {};
    if (current === undefined || total === undefined || total === 0) return "";
    const begun = this.#begun.get(id);
    if (begun === undefined || begun.status !== status || current < begun.bytes) {
      this.#begun.set(id, { status, atMs: nowMs, bytes: current });
      return "";
    }
    const seconds = (nowMs - begun.atMs) / 1000;
    const rate = (current - begun.bytes) / seconds;
    if (seconds < 0.5 || rate <= 0) return "";
    const left = Math.ceil((total - current) / rate);
    const time =
      left >= 3600 ? `${Math.floor(left / 3600)}h${Math.floor((left % 3600) / 60)}m` : left >= 60 ? `${Math.floor(left / 60)}m${left % 60}s` : `${left}s`;
    return `  ${decimalSize(rate)}/s ${time}`;
  }
}
