/** `wherry search`. @module */
import { type Command, command } from "../command.ts";
import { hidden, int, many, onOff } from "../flags.ts";
import { type Columns, formatList } from "../format/list.ts";
import { filtersQuery, formatFlag } from "../list-flags.ts";
import { filter } from "../options/validate.ts";
import { write } from "../output.ts";
import { authHeadersFor } from "./registry-auth.ts";

interface Found {
  readonly name: string;
  readonly description: string;
  readonly star_count: number;
  readonly is_official: boolean;
  readonly is_automated: boolean;
}

export const searchCommand: Command = command({
  usage: "[OPTIONS] TERM",
  about: "Search a registry for images",
  examples: [["search registry.example.com/web", "in a registry of your own: its catalog, where it has no search"]],
  flags: [
    many("filter,f", "Only those that match (stars=3, is-official=true)", { metavar: "filter", parse: filter }),
    formatFlag,
    int("limit", "At most so many"),
    onOff("no-trunc", "Do not shorten descriptions"),
    hidden(onOff("automated", "Only automated builds")),
  ],
  arity: [1, 1],
  run: async ({ args, client, flags, io }) => {
    const term = args[0]!;
    const host = term.includes("/") && /[.:]|^localhost$/.test(term.split("/")[0]!) ? term.split("/")[0]! : "docker.io";
    const found = await client.json<Found[]>("GET", "/images/search", {
      query: { term, limit: flags.number("limit") || undefined, filters: filtersQuery(flags.list("filter")) },
      headers: await authHeadersFor(io, host),
      signal: io.gone,
    });
    const table = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";
    await write(
      io.stdout,
      formatList(
        [...found].sort((a, b) => b.star_count - a.star_count),
        { columns: columns(flags.on("no-trunc")), format: flags.text("format"), table, quiet: undefined },
      ),
    );
    return 0;
  },
});

const shown = 45;

function columns(whole: boolean): Columns<Found> {
  const short = (text: string) => (whole || text.length <= shown ? text : `${text.slice(0, shown - 1)}…`);
  return {
    Name: { header: "NAME", value: ({ name }) => name },
    Description: { header: "DESCRIPTION", value: ({ description }) => short(description.replace(/[\r\n]+/g, " ")) },
    StarCount: { header: "STARS", value: ({ star_count }) => String(star_count) },
    IsOfficial: { header: "OFFICIAL", value: ({ is_official }) => (is_official ? "[OK]" : "") },
    IsAutomated: { header: "AUTOMATED", value: ({ is_automated }) => (is_automated ? "[OK]" : "") },
  };
}
