/** `wherry images`. @module */
import type { ImageSummary } from "#api/types/mod.ts";
import { type Command, command } from "./command.ts";
import { many, onOff } from "./flags.ts";
import { ago, goTime, humanSize, truncateId } from "./format/human.ts";
import { type Columns, formatList } from "./format/list.ts";
import { filtersQuery, formatFlag } from "./list-flags.ts";
import { splitTag } from "./options/reference.ts";
import { filter } from "./options/validate.ts";
import { write } from "./output.ts";

const created = "{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}";
const table = `{{.Repository}}\t{{.Tag}}\t{{.ID}}\t${created}\t{{.Size}}`;
const digestTable = `{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t${created}\t{{.Size}}`;

/** One line: an image under one of its names. */
export interface ImageRow {
  readonly image: ImageSummary;
  readonly repository: string;
  readonly tag: string;
  readonly digest: string;
}

export const imagesCommand: Command = command({
  usage: "[OPTIONS] [REPOSITORY[:TAG]]",
  about: "List images",
  examples: [["images -f dangling=true -q", "ids of images without a name"]],
  flags: [
    onOff("all,a", "Show intermediate images too"),
    onOff("digests", "Show digests"),
    many("filter,f", "Only those that match (dangling=true, label=…, before=…, since=…, reference=…)", { metavar: "filter", parse: filter }),
    formatFlag,
    onOff("no-trunc", "Do not shorten ids"),
    onOff("quiet,q", "Only ids"),
  ],
  arity: [0, 1],
  run: async ({ args, client, flags, io }) => {
    const filters = [...flags.list<readonly [string, string]>("filter"), ...args.map((name) => ["reference", name] as const)];
    const images = await client.json<ImageSummary[]>("GET", "/images/json", {
      query: { all: flags.on("all") ? 1 : undefined, filters: filtersQuery(filters) },
      signal: io.gone,
    });
    const format = flags.text("format");
    const digests = flags.on("digests") || /\.Digest\b/.test(format);
    const rows = images.flatMap((image) => imageRows(image, digests));
    await write(
      io.stdout,
      formatList(rows, {
        columns: imageColumns(flags.on("no-trunc"), Date.now()),
        format,
        table: flags.on("digests") ? digestTable : table,
        quiet: flags.on("quiet") ? "{{.ID}}" : undefined,
        raw: `repository: {{.Repository}}\ntag: {{.Tag}}\n${flags.on("digests") ? "digest: {{.Digest}}\n" : ""}image_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n`,
      }),
    );
    return 0;
  },
});

const none = "<none>";

/** One row for each name; with digests, each digest of a repository beside its tags. */
export function imageRows(image: ImageSummary, digests: boolean): ImageRow[] {
  const tags = image.RepoTags.filter((tag) => tag !== "<none>:<none>").map(splitTag);
  const known = image.RepoDigests.filter((digest) => digest !== "<none>@<none>").map((text) => {
    const at = text.indexOf("@");
    return { repository: text.slice(0, at), digest: text.slice(at + 1) };
  });
  if (tags.length === 0 && known.length === 0) return [{ image, repository: none, tag: none, digest: none }];
  if (!digests) {
    const named = tags.map(({ repository, tag }) => ({ image, repository, tag, digest: none }));
    const untagged = known.filter((d) => !tags.some((t) => t.repository === d.repository));
    // Digests count as names only for a repository that has no tag, once each.
    return [...named, ...[...new Set(untagged.map((d) => d.repository))].map((repository) => ({ image, repository, tag: none, digest: none }))];
  }
  const rows: ImageRow[] = [];
  for (const { repository, tag } of tags) {
    const own = known.filter((d) => d.repository === repository);
    if (own.length === 0) rows.push({ image, repository, tag, digest: none });
    for (const { digest } of own) rows.push({ image, repository, tag, digest });
  }
  for (const { repository, digest } of known) {
    if (!tags.some((t) => t.repository === repository)) rows.push({ image, repository, tag: none, digest });
  }
  return rows;
}

/** The fields of `--format`. */
export function imageColumns(noTrunc: boolean, now: number): Columns<ImageRow> {
  const known = (bytes: number) => (bytes === -1 ? "N/A" : humanSize(bytes, 4));
  return {
    ID: { header: "IMAGE ID", value: ({ image }) => (noTrunc ? image.Id : truncateId(image.Id)) },
    Repository: { header: "REPOSITORY", value: (row) => row.repository },
    Tag: { header: "TAG", value: (row) => row.tag },
    Digest: { header: "DIGEST", value: (row) => row.digest },
    CreatedSince: { header: "CREATED", value: ({ image }) => ago(image.Created * 1000, now) },
    CreatedAt: { header: "CREATED AT", value: ({ image }) => goTime(image.Created) },
    Size: { header: "SIZE", value: ({ image }) => humanSize(image.Size) },
    VirtualSize: { header: "SIZE", value: ({ image }) => humanSize(image.Size, 4) },
    Containers: { header: "CONTAINERS", value: ({ image }) => (image.Containers === -1 ? "N/A" : String(image.Containers)) },
    SharedSize: { header: "SHARED SIZE", value: ({ image }) => known(image.SharedSize) },
    UniqueSize: { header: "UNIQUE SIZE", value: ({ image }) => (image.SharedSize === -1 ? "N/A" : humanSize(image.Size - image.SharedSize, 4)) },
  };
}
