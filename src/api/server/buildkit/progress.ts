/** A build's events as BuildKit's status: vertices with their times, what they print, warnings. @module */
import { createHash } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { stepTitle } from "#api/types/build-json.ts";
import type { BuildEvent } from "#build/solver/progress.ts";
import { inBuildKitsWords } from "./failures.ts";
import type { StatusResponseSchema } from "./gen/control_pb.ts";
import { Queue } from "./queue.ts";

export type Status = MessageInitShape<typeof StatusResponseSchema>;

/** What one step may print; BuildKit's own bound. Bytes. */
const maxLogBytes = 2 * 1024 * 1024;

/** Instructions that do nothing but change settings: no work that anybody could watch. */
const settingsOnly = /^(ARG|CMD|ENTRYPOINT|ENV|EXPOSE|HEALTHCHECK|LABEL|MAINTAINER|ONBUILD|SHELL|STOPSIGNAL|USER|VOLUME)\b/i;

/** The work that warnings about the Dockerfile belong to. */
export const definition = "[internal] load build definition from Dockerfile";

interface Running {
  readonly digest: string;
  readonly name: string;
  readonly startedMs: number;
  cached: boolean;
  logBytes: number;
}

/** Collects the status of one build for whoever asks for it. */
export class Progress {
  readonly status: Queue<Status> = new Queue();
  readonly #build: string;
  readonly #running = new Map<number, Running>();
  /** Work around the steps, by name. */
  readonly #tasks = new Map<string, Running>();

  /** `build`: makes the digests of this build's vertices differ from another's. */
  constructor(build: string) {
    this.#build = build;
  }

  report(event: BuildEvent): void {
    const { step } = event;
    if (event.kind === "task") this.#task(event);
    if (event.kind === "lint") {
      const { rule, detail, description, url, line, endLine } = event;
      const ranges = [{ start: { line }, end: { line: endLine } }];
      this.status.put({
        warnings: [
          { vertex: this.#digest(definition), level: 1n, short: bytesOf(`${rule}: ${detail} (line ${line})`), detail: [bytesOf(description)], url, ranges },
        ],
      });
    }
    if (step === undefined) {
      if (event.kind === "warning") this.status.put({ warnings: [{ vertex: "", level: 1n, short: bytesOf(event.text) }] });
      return;
    }
    const quiet = settingsOnly.test(step.text);
    const running = this.#running.get(step.number);
    switch (event.kind) {
      case "begin": {
        if (quiet) return;
        this.#running.set(step.number, this.#begin(`step ${step.number}`, stepTitle(step), event.atMs));
        return;
      }
      case "cached":
        if (running !== undefined) running.cached = true;
        return;
      case "output":
        if (running !== undefined) this.#log(running, event.stream === "stdout" ? 1n : 2n, event.data);
        return;
      case "status":
        if (running !== undefined) this.#log(running, 1n, bytesOf(`${event.text}\n`));
        return;
      case "warning":
        this.status.put({ warnings: [{ vertex: running?.digest ?? "", level: 1n, short: bytesOf(event.text) }] });
        return;
      case "done":
        if (running !== undefined) this.#end(running, event.atMs, "");
        this.#running.delete(step.number);
        return;
      case "failed": {
        const failed = running ?? this.#begin(`step ${step.number}`, stepTitle(step), event.atMs);
        this.#end(failed, event.atMs, inBuildKitsWords(event.message));
        this.#running.delete(step.number);
        return;
      }
      case "miss":
      case "left":
      case "container":
        return;
    }
  }

  #task({ name, state, message, atMs }: Extract<BuildEvent, { kind: "task" }>): void {
    const running = this.#tasks.get(name) ?? this.#begin(name, name, atMs);
    if (state === "begin") this.#tasks.set(name, running);
    else {
      this.#tasks.delete(name);
      this.#end(running, atMs, message);
    }
  }

  /** Work of ours around the steps: the Dockerfile's reading, the outputs. */
  async during<T>(name: string, work: (say: (text: string) => void) => Promise<T>): Promise<T> {
    const running = this.#begin(name, name, Date.now());
    try {
      const result = await work((text) => this.#log(running, 1n, bytesOf(`${text}\n`)));
      this.#end(running, Date.now(), "");
      return result;
    } catch (error) {
      this.#end(running, Date.now(), error instanceof Error ? error.message : String(error));
      throw error;
    }
  }

  #begin(key: string, name: string, startedMs: number): Running {
    const digest = this.#digest(key);
    const running = { digest, name, startedMs, cached: false, logBytes: 0 };
    this.status.put({ vertexes: [{ digest, name, started: timestamp(startedMs) }] });
    return running;
  }

  #digest(key: string): string {
    return `sha256:${createHash("sha256").update(`${this.#build}\n${key}`).digest("hex")}`;
  }

  #end({ digest, name, startedMs, cached }: Running, atMs: number, error: string): void {
    this.status.put({ vertexes: [{ digest, name, cached, started: timestamp(startedMs), completed: timestamp(atMs), error }] });
  }

  #log(running: Running, stream: bigint, data: Uint8Array): void {
    if (running.logBytes > maxLogBytes) return;
    running.logBytes += data.byteLength;
    const msg = running.logBytes > maxLogBytes ? bytesOf("[output clipped, log limit 2MiB reached]\n") : data;
    this.status.put({ logs: [{ vertex: running.digest, timestamp: timestamp(Date.now()), stream, msg }] });
  }
}

export function timestamp(ms: number): MessageInitShape<typeof import("@bufbuild/protobuf/wkt").TimestampSchema> & Partial<Timestamp> {
  return { seconds: BigInt(Math.floor(ms / 1000)), nanos: Math.floor(ms % 1000) * 1_000_000 };
}

function bytesOf(text: string): Uint8Array {
  return Buffer.from(text, "utf8");
}
