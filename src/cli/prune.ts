/** `wherry container|image|network|volume|system prune`. @module */
import type { DeleteItem } from "#api/types/mod.ts";
import { type Call, type Command, command } from "./command.ts";
import { parseBytes } from "./options/bytes.ts";
import { ExitError } from "./errors.ts";
import { type Flag, many, one, onOff } from "./flags.ts";
import { humanSize } from "./format/human.ts";
import { filtersQuery } from "./list-flags.ts";
import { filter } from "./options/validate.ts";
import { previewBuilds, previewContainers, previewImages, previewNetworks, previewVolumes, type Pruned, section } from "./prune-preview.ts";
import { write } from "./output.ts";

type Pair = readonly [string, string];

/** What a prune would take, from the lists that show it; the daemon is not asked to remove anything. */
const dryRunFlag = onOff("dry-run", "Only show what would be removed");
const forceFlag = onOff("force,f", "Do not ask");
const filterFlag = many("filter", "Only those that match (until=24h, label=…)", { metavar: "filter", parse: filter });

/** Asks on a terminal (or whatever feeds us); anything but y is no. */
async function confirmed({ flags, io }: Call, warning: string): Promise<boolean> {
  if (flags.on("force")) return true;
  await write(io.stdout, `${warning}Are you sure you want to continue? [y/N] `);
  let answer = "";
  for await (const chunk of io.stdin as AsyncIterable<Buffer>) {
    answer += chunk.toString("utf8");
    if (answer.includes("\n")) break;
  }
  return /^y$/i.test(answer.split("\n")[0]!.trim());
}

async function pruneContainers({ client, io }: Call, pairs: readonly Pair[]): Promise<Pruned> {
  const reply = await client.json<{ ContainersDeleted: string[] | null; SpaceReclaimed: number }>("POST", "/containers/prune", {
    query: { filters: filtersQuery(pairs) },
    signal: io.gone,
  });
  return { text: section("Deleted Containers", reply.ContainersDeleted ?? []), bytes: reply.SpaceReclaimed };
}

async function pruneImages({ client, flags, io }: Call, pairs: readonly Pair[]): Promise<Pruned> {
  const filters = filtersQuery([...pairs, ["dangling", String(!flags.on("all"))]]);
  const reply = await client.json<{ ImagesDeleted: DeleteItem[] | null; SpaceReclaimed: number }>("POST", "/images/prune", {
    query: { filters },
    signal: io.gone,
  });
  const lines = (reply.ImagesDeleted ?? []).map((item) => ("Deleted" in item ? `deleted: ${item.Deleted}` : `untagged: ${item.Untagged}`));
  return { text: section("Deleted Images", lines), bytes: reply.SpaceReclaimed };
}

async function pruneNetworks({ client, io }: Call, pairs: readonly Pair[]): Promise<Pruned> {
  const reply = await client.json<{ NetworksDeleted: string[] | null }>("POST", "/networks/prune", {
    query: { filters: filtersQuery(pairs) },
    signal: io.gone,
  });
  return { text: section("Deleted Networks", reply.NetworksDeleted ?? []), bytes: 0 };
}

async function pruneVolumes({ client, io }: Call, pairs: readonly Pair[]): Promise<Pruned> {
  const reply = await client.json<{ VolumesDeleted: string[] | null; SpaceReclaimed: number }>("POST", "/volumes/prune", {
    query: { filters: filtersQuery(pairs) },
    signal: io.gone,
  });
  return { text: section("Deleted Volumes", reply.VolumesDeleted ?? []), bytes: reply.SpaceReclaimed };
}

interface PruneOptions {
  readonly about: string;
  readonly flags?: readonly Flag[];
  /** What is asked about, up to the question. */
  readonly warning: (call: Call) => string;
  readonly work: (call: Call, pairs: readonly Pair[]) => Promise<Pruned>;
  /** What the lists cannot tell has none, and no `--dry-run`. */
  readonly preview?: (call: Call, pairs: readonly Pair[]) => Promise<Pruned>;
  /** Networks hold no bytes. */
  readonly total?: boolean;
}

async function pruneBuilds({ client, flags, io }: Call, pairs: readonly Pair[]): Promise<Pruned> {
  // `system prune` has no such flag.
  const keep = flags.has("keep-storage") ? flags.number("keep-storage") : 0;
  const reply = await client.json<{ CachesDeleted: string[] | null; SpaceReclaimed: number }>("POST", "/build/prune", {
    query: { all: flags.on("all") ? 1 : undefined, "keep-storage": keep || undefined, filters: filtersQuery(pairs) },
    signal: io.gone,
  });
  const deleted = reply.CachesDeleted ?? [];
  return { text: deleted.length === 0 ? "" : `Deleted build cache objects:\n${deleted.join("\n")}\n`, bytes: reply.SpaceReclaimed };
}

export const builderPruneCommand: Command = pruneCommand({
  about: "Remove what the build cache holds",
  flags: [
    onOff("all,a", "Also what other steps stand on, and the directories of cache mounts"),
    one("keep-storage", "Keep so much of what was used last", { metavar: "bytes", initial: 0, parse: parseBytes }),
  ],
  warning: ({ flags }) => `WARNING! This will remove all ${flags.on("all") ? "" : "dangling "}build cache. `,
  work: pruneBuilds,
});

function pruneCommand(options: PruneOptions): Command {
  return command({
    usage: "[OPTIONS]",
    about: options.about,
    flags: [forceFlag, ...(options.preview === undefined ? [] : [dryRunFlag]), filterFlag, ...(options.flags ?? [])],
    arity: [0, 0],
    run: async (call) => {
      if (options.preview !== undefined && call.flags.on("dry-run")) {
        const { text, bytes } = await options.preview(call, call.flags.list<Pair>("filter"));
        const gap = text === "" ? "" : `${text}\n`;
        await write(call.io.stdout, options.total === false ? gap : `${gap}Total reclaimable space: ${humanSize(bytes, 4)}\n`);
        return 0;
      }
      // Declined: nothing to say, as docker.
      if (!(await confirmed(call, options.warning(call)))) return 0;
      const { text, bytes } = await options.work(call, call.flags.list<Pair>("filter"));
      const gap = text === "" ? "" : `${text}\n`;
      await write(call.io.stdout, options.total === false ? gap : `${gap}Total reclaimed space: ${humanSize(bytes, 4)}\n`);
      return 0;
    },
  });
}

export const containerPruneCommand: Command = pruneCommand({
  about: "Remove all stopped containers",
  warning: () => "WARNING! This will remove all stopped containers.\n",
  work: pruneContainers,
  preview: previewContainers,
});

export const imagePruneCommand: Command = pruneCommand({
  about: "Remove unused images",
  flags: [onOff("all,a", "All images that no container uses, not only those without a name")],
  warning: ({ flags }) =>
    flags.on("all")
      ? "WARNING! This will remove all images without at least one container associated to them.\n"
      : "WARNING! This will remove all dangling images.\n",
  work: pruneImages,
  preview: previewImages,
});

export const networkPruneCommand: Command = pruneCommand({
  about: "Remove unused networks",
  warning: () => "WARNING! This will remove all custom networks not used by at least one container.\n",
  work: pruneNetworks,
  preview: previewNetworks,
  total: false,
});

export const volumePruneCommand: Command = pruneCommand({
  about: "Remove unused volumes",
  flags: [onOff("all,a", "Named volumes too")],
  warning: ({ flags }) =>
    flags.on("all")
      ? "WARNING! This will remove all local volumes not used by at least one container.\n"
      : "WARNING! This will remove anonymous local volumes not used by at least one container.\n",
  work: (call, pairs) => {
    const all = call.flags.on("all");
    if (all && pairs.some(([key]) => key === "all")) throw new Error("conflicting options: cannot specify both --all and --filter all=1");
    return pruneVolumes(call, all ? [...pairs, ["all", "true"]] : pairs);
  },
  preview: (call, pairs) => previewVolumes(call, pairs, call.flags.on("all")),
});

/** Which of them: docker sorts the filters. */
function filtersTold(pairs: readonly Pair[]): string[] {
  if (pairs.length === 0) return [];
  return ["  Items to be pruned will be filtered with:", ...pairs.map(([key, value]) => `  - ${key}=${value}`).sort(), ""];
}

function together(parts: readonly Pruned[]): Pruned {
  const text = parts
    .map((part) => part.text)
    .filter((part) => part !== "")
    .join("\n");
  return { text, bytes: parts.reduce((sum, part) => sum + part.bytes, 0) };
}

export const systemPruneCommand: Command = pruneCommand({
  about: "Remove all that is unused: stopped containers, networks, images, build cache",
  flags: [onOff("all,a", "All images that no container uses"), onOff("volumes", "Anonymous volumes too")],
  warning: ({ flags }) =>
    [
      "WARNING! This will remove:",
      "  - all stopped containers",
      "  - all networks not used by at least one container",
      ...(flags.on("volumes") ? ["  - all anonymous volumes not used by at least one container"] : []),
      flags.on("all") ? "  - all images without at least one container associated to them" : "  - all dangling images",
      flags.on("all") ? "  - all build cache" : "  - unused build cache",
      "",
      ...filtersTold(flags.list<Pair>("filter")),
      "",
    ].join("\n"),
  work: async (call, pairs) => {
    if (call.flags.on("volumes") && pairs.some(([key]) => key === "until"))
      throw new ExitError(1, 'ERROR: The "until" filter is not supported with "--volumes"');
    const parts = [await pruneContainers(call, pairs), await pruneNetworks(call, pairs)];
    if (call.flags.on("volumes")) parts.push(await pruneVolumes(call, pairs));
    parts.push(await pruneImages(call, pairs), await pruneBuilds(call, pairs));
    return together(parts);
  },
  preview: async (call, pairs) => {
    const parts = [await previewContainers(call, pairs), await previewNetworks(call, pairs)];
    if (call.flags.on("volumes")) parts.push(await previewVolumes(call, pairs, false));
    parts.push(await previewImages(call, pairs), await previewBuilds(call, pairs));
    return together(parts);
  },
});
