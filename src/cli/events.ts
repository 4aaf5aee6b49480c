/** `wherry events`. @module */
import type { EventJson } from "#api/types/mod.ts";
import { type Command, command } from "./command.ts";
import { ExitError } from "./errors.ts";
import { many, one } from "./flags.ts";
import { parsed } from "./format/answer.ts";
import { typed } from "./format/null-text.ts";
import { type Template, TemplateError } from "./format/template.ts";
import { filtersQuery } from "./list-flags.ts";
import { parseMoment } from "./options/duration.ts";
import { filter } from "./options/validate.ts";
import { write } from "./output.ts";

export const eventsCommand: Command = command({
  usage: "[OPTIONS]",
  about: "Watch what happens in the engine",
  examples: [["events -f type=container -f event=die", "containers that end"]],
  flags: [
    many("filter,f", "Only those that match (type=…, event=…, container=…, label=…)", { metavar: "filter", parse: filter }),
    one("format", 'How to print: "json" or a Go template'),
    one("since", "Start with what happened then"),
    one("until", "End then"),
  ],
  arity: [0, 0],
  run: async ({ client, flags, io }) => {
    const format = flags.text("format");
    const json = format === "json" || format === "{{json .}}"; // as it came: a number of nanoseconds does not survive being read
    const template = format === "" || json ? undefined : parsed(format.replaceAll("\\t", "\t").replaceAll("\\n", "\n"), wrongFormat);
    const moment = (name: "since" | "until") => {
      try {
        return parseMoment(flags.text(name), Date.now()) || undefined;
      } catch (error) {
        throw new ExitError(1, (error as Error).message);
      }
    };
    const query = { since: moment("since"), until: moment("until"), filters: filtersQuery(flags.list<readonly [string, string]>("filter")) };
    const { body } = await client.stream("GET", "/events", { query, signal: io.gone });
    for await (const { event, text } of events(body)) {
      await write(io.stdout, `${json ? text : template === undefined ? eventLine(event, text) : byTemplate(template, event)}\n`);
    }
    return 0;
  },
});

const wrongFormat = "Error parsing format";

/** The fields by Go's names. Throws ExitError with docker's code for one that there is not. */
function byTemplate(template: Template, event: EventJson): string {
  const { time: Time, timeNano: TimeNano, scope: Scope, status: Status = "", id: ID = "", from: From = "" } = event;
  try {
    return template.execute({ ...event, Time, TimeNano, Scope, Status, ID, From }, { strict: eventType });
  } catch (error) {
    if (error instanceof TemplateError) throw new ExitError(64, `${wrongFormat}: ${error.message}`);
    throw error;
  }
}

const eventType = { ...typed("*events.Message", []), isMap: (name: string) => name === "Attributes" };

/** Events with the text that they came in: nanoseconds do not survive JSON.parse. */
async function* events(body: AsyncIterable<Uint8Array>): AsyncGenerator<{ readonly event: EventJson; readonly text: string }> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop()!; // split never gives an empty list
    for (const line of lines) {
      const text = line.trim();
      if (text !== "") yield { event: JSON.parse(text) as EventJson, text }; // the shape of this route's lines
    }
  }
}

/** `2025-01-02T03:04:05.123456789Z container start ID (image=…, name=…)`. */
function eventLine(event: EventJson, text: string): string {
  const nano = /(?<!\\)"timeNano":(\d+)/.exec(text)?.[1];
  const attributes = Object.keys(event.Actor.Attributes)
    .sort()
    .map((key) => `${key}=${event.Actor.Attributes[key]}`)
    .join(", ");
  const when = timestamp(nano === undefined || nano === "0" ? BigInt(event.time) * 1_000_000_000n : BigInt(nano));
  return `${when} ${event.Type} ${event.Action} ${event.Actor.ID}${attributes === "" ? "" : ` (${attributes})`}`;
}

/** RFC 3339 with all nine digits, in the local zone. */
function timestamp(ns: bigint): string {
  const date = new Date(Number(ns / 1_000_000n));
  const offset = -date.getTimezoneOffset();
  const two = (n: number) => String(n).padStart(2, "0");
  const zone = offset === 0 ? "Z" : `${offset < 0 ? "-" : "+"}${two(Math.floor(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`;
  const local = new Date(date.getTime() + offset * 60_000).toISOString().slice(0, 19);
  return `${local}.${(ns % 1_000_000_000n).toString().padStart(9, "0")}${zone}`;
}
