/** How a build looks: every step with its output, its time, and whether the cache answered. @module */
import { StringDecoder } from "node:string_decoder";
import { type BuildEventJson, type StepJson, stepTitle } from "#api/types/build-json.ts";
import type { CliIo } from "./io.ts";
import { write } from "./output.ts";

export interface BuildView {
  event(event: BuildEventJson): Promise<void>;
  /** The build has ended; `failed`: with an error. */
  end(failed: boolean): Promise<void>;
}

interface Running {
  readonly step: StepJson;
  readonly since: number;
  readonly decoder: StringDecoder;
  /** Its last lines, for whoever asks why it failed. */
  readonly lines: string[];
  part: string;
  cached: boolean;
  why: string | undefined;
}

/** Lines of a failed step that are shown again. */
const lastLines = 20;

/** `#3 [build 2/5] RUN make`: a line for everything that happens, as CI logs want it; steps of parallel stages tell theirs apart by the number. */
export function plainView(io: CliIo, explain: boolean): BuildView {
  const running = new Map<number, Running>();
  const say = (text: string) => write(io.stderr, `${text}\n`);
  return {
    async event(event) {
      if (event.kind === "warning" && event.step === undefined) return say(`WARNING: ${event.text}`);
      if (event.kind === "lint") return say(lintLine(event));
      if (event.kind === "task") return say(taskLine(event));
      const { step } = event;
      if (step === undefined) return;
      const known = running.get(step.number);
      switch (event.kind) {
        case "begin":
          running.set(step.number, begun(step, event.atMs));
          return say(`#${step.number} ${titleOf(step)}`);
        case "cached":
          if (known) known.cached = true;
          return explain ? say(`#${step.number} cached: ${whence(event)}`) : undefined;
        case "miss":
          if (known) known.why = event.why;
          if (explain) await say(`#${step.number} not cached: ${event.why}`);
          return;
        case "output":
          for (const line of known === undefined ? [] : linesOf(known, event.data)) await say(`#${step.number} ${seconds(Date.now() - known!.since)} ${line}`);
          return;
        case "status":
          return say(`#${step.number} ${event.text}`);
        case "warning":
          return say(`#${step.number} WARNING: ${event.text}`);
        case "done":
          for (const line of known === undefined ? [] : restOf(known)) await say(`#${step.number} ${line}`);
          running.delete(step.number);
          return say(`#${step.number} ${known?.cached === true ? "CACHED" : `DONE ${seconds(event.atMs - (known?.since ?? event.atMs))}`}`);
        case "failed":
          for (const line of known === undefined ? [] : restOf(known)) await say(`#${step.number} ${line}`);
          return say(`#${step.number} ERROR: ${event.message}`);
        case "container":
        case "left":
          return;
      }
    },
    end: async () => undefined,
  };
}

/** The steps that run, each in a line of its own that moves, with the last line of its output; what has ended stays above. */
export function terminalView(io: CliIo, explain: boolean): BuildView {
  const running = new Map<number, Running>();
  let drawn = 0;
  const width = () => Math.max(20, (io.size()?.columns ?? 80) - 1);
  const redraw = async (ended: readonly string[]) => {
    const clear = drawn === 0 ? "" : `\u001b[${drawn}A\u001b[J`;
    const rows = [...running.values()].flatMap((one) => {
      const title = `${titleOf(one.step)} ${seconds(Date.now() - one.since)}`;
      const tail = one.lines.slice(-3).map((line) => `   ${line}`);
      return [` => ${title}`, ...tail];
    });
    drawn = rows.length;
    await write(io.stderr, clear + [...ended, ...rows].map((row) => `${row.slice(0, width())}\n`).join(""));
  };
  return {
    async event(event) {
      if (event.kind === "warning") return redraw([` WARNING: ${event.text}`]);
      if (event.kind === "lint") return redraw([` ${lintLine(event)}`]);
      if (event.kind === "task") return redraw([` ${taskLine(event)}`]);
      const { step } = event;
      const known = running.get(step.number);
      switch (event.kind) {
        case "begin":
          running.set(step.number, begun(step, event.atMs));
          return redraw([]);
        case "cached":
          if (known) known.cached = true;
          return explain ? redraw([` ${titleOf(step)}: cached: ${whence(event)}`]) : undefined;
        case "miss":
          return explain ? redraw([` ${titleOf(step)}: not cached: ${event.why}`]) : undefined;
        case "output":
          if (known === undefined) return;
          linesOf(known, event.data);
          return redraw([]);
        case "status":
          return redraw([`    ${event.text}`]);
        case "done":
          running.delete(step.number);
          return redraw([
            `${known?.cached === true ? " => CACHED" : " =>"} ${titleOf(step)}${known?.cached === true ? "" : ` ${seconds(event.atMs - (known?.since ?? event.atMs))}`}`,
          ]);
        case "failed":
          if (known === undefined) return;
          restOf(known);
          running.delete(step.number);
          return redraw([` => ERROR ${titleOf(step)}`, ...(known.lines.length === 0 ? [] : ["------", ...known.lines, "------"])]);
        case "container":
        case "left":
          return;
      }
    },
    end: async () => {
      running.clear();
      await redraw([]);
    },
  };
}

/** Where an answer came from. */
function whence({ from }: Extract<BuildEventJson, { kind: "cached" }>): string {
  return from === undefined ? "by the cache of this engine" : `from ${printable(from)}`;
}

/** A cache that cannot be read does no harm to the build: its failure is a warning. One that cannot be written ends the build with an error of its own. */
function taskLine({ name, state, message }: Extract<BuildEventJson, { kind: "task" }>): string {
  if (state === "failed") return `WARNING: ${printable(name)}: ${printable(message)}`;
  return `${printable(name)}${state === "done" ? " DONE" : ""}`;
}

function lintLine({ rule, detail, line }: Extract<BuildEventJson, { kind: "lint" }>): string {
  return `WARNING: ${rule}: ${printable(detail)} (line ${line})`;
}

function begun(step: StepJson, since: number): Running {
  return { step, since, decoder: new StringDecoder("utf8"), lines: [], part: "", cached: false, why: undefined };
}

function titleOf(step: StepJson): string {
  return printable(stepTitle(step));
}

/** Whole lines of the output so far. */
function linesOf(running: Running, data: string): string[] {
  const lines = (running.part + running.decoder.write(Buffer.from(data, "base64"))).split(/\r?\n/);
  running.part = lines.pop() ?? "";
  const shown = lines.map((line) => printable(line.slice(line.lastIndexOf("\r") + 1)));
  running.lines.push(...shown);
  running.lines.splice(0, running.lines.length - lastLines);
  return shown;
}

function restOf(running: Running): string[] {
  const rest = running.part + running.decoder.end();
  running.part = "";
  if (rest === "") return [];
  running.lines.push(printable(rest));
  return [printable(rest)];
}

/** What a build prints may hold anything; only colours get to the terminal. */
function printable(text: string): string {
  return text.replace(/\u001b(?!\[[0-9;]*m)/g, "").replace(/[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]/g, "");
}

function seconds(ms: number): string {
  return `${(Math.max(0, ms) / 1000).toFixed(1)}s`;
}
