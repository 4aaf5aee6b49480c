/** A build's events as the lines that the classic builder writes. @module */
import { StringDecoder } from "node:string_decoder";
import type { BuildEvent, Report } from "#build/solver/progress.ts";
import { shortId } from "#core/ids.ts";
import type { ProgressLine } from "#api/types/progress.ts";
import { inStepOrder } from "./step-order.ts";

/** Passes a build's events on as text, step by step. */
export function classicLines(emit: (line: ProgressLine) => void): Report {
  const say = (text: string) => emit({ stream: text });
  const decoders = { stdout: new StringDecoder("utf8"), stderr: new StringDecoder("utf8") };
  return inStepOrder((event: BuildEvent) => {
    switch (event.kind) {
      case "begin":
        say(`Step ${event.step.number}/${event.step.total} : ${event.step.text}`);
        say("\n");
        return;
      case "cached":
        say(" ---> Using cache\n");
        return;
      case "container":
        say(event.removed ? `Removing intermediate container ${shortId(event.id)}\n` : ` ---> Running in ${shortId(event.id)}\n`);
        return;
      case "output": {
        const text = decoders[event.stream].write(Buffer.from(event.data.buffer, event.data.byteOffset, event.data.byteLength));
        if (text !== "") say(text);
        return;
      }
      case "status":
        say(`${event.text.startsWith("Executing") ? "# " : ""}${event.text}\n`);
        return;
      case "warning":
        say(`[Warning] ${event.text}\n`);
        return;
      case "done":
        say(` ---> ${shortId(event.image)}\n`);
        return;
      case "task":
        if (event.state === "failed") say(`[Warning] ${event.name}: ${event.message}\n`);
        return;
      // What the classic builder does not say, or says as its error.
      case "miss":
      case "lint":
      case "left":
      case "failed":
        return;
    }
  });
}

/** The events as they are, for a client that draws them itself (`progress=events`, ours): each as `aux`, output as base64. */
export function eventLines(emit: (line: ProgressLine) => void): Report {
  return (event) => emit({ aux: event.kind === "output" ? { ...event, data: Buffer.from(event.data).toString("base64") } : event });
}
