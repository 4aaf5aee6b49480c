/** `wherry system df`. @module */
import type { BuildCacheJson, ContainerSummary, DiskUsage, ImageSummary, VolumeJson } from "#api/types/mod.ts";
import { type Command, command } from "./command.ts";
import { onOff } from "./flags.ts";
import { ago, goTime, humanSize, truncateId } from "./format/human.ts";
import { type Columns, compile, formatList, row, rowJson } from "./format/list.ts";
import { imageColumns, imageRows, type ImageRow } from "./images.ts";
import { typed } from "./format/null-text.ts";
import { formatFlag } from "./list-flags.ts";
import { write } from "./output.ts";
import { containerColumns } from "./ps.ts";
import { volumeColumns } from "./volume.ts";

interface Row {
  readonly type: string;
  readonly total: number;
  readonly active: number;
  readonly bytes: number;
  readonly reclaimable: number;
  /** The build cache has no percentage. */
  readonly share: boolean;
}

export const systemDfCommand: Command = command({
  usage: "[OPTIONS]",
  about: "Show what takes disk space",
  flags: [formatFlag, onOff("verbose,v", "Each image, container and volume")],
  arity: [0, 0],
  run: async ({ client, flags, io }) => {
    const format = flags.text("format");
    const verbose = flags.on("verbose");
    const usage = await client.json<DiskUsage>("GET", "/system/df", { signal: io.gone });
    if (verbose) {
      await write(io.stdout, format === "" || format === "table" ? details(usage) : `${detailsBy(usage, format)}\n`);
      return 0;
    }
    const columns: Columns<Row> = {
      Type: { header: "TYPE", value: (row) => row.type },
      TotalCount: { header: "TOTAL", value: (row) => String(row.total) },
      Active: { header: "ACTIVE", value: (row) => String(row.active) },
      Size: { header: "SIZE", value: (row) => humanSize(row.bytes, 4) },
      Reclaimable: { header: "RECLAIMABLE", value: reclaimableText },
    };
    await write(io.stdout, formatList(rows(usage), { columns, format, table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}" }));
    return 0;
  },
});

function reclaimableText({ bytes, reclaimable, share }: Row): string {
  const size = humanSize(reclaimable, 4);
  return share && bytes > 0 ? `${size} (${Math.trunc((reclaimable * 100) / bytes)}%)` : size;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

const isActive = (container: ContainerSummary): boolean => ["running", "paused", "restarting"].some((state) => container.State.includes(state));

function rows(usage: DiskUsage): Row[] {
  const images = usage.Images ?? [];
  const containers = usage.Containers ?? [];
  const volumes = usage.Volumes ?? [];
  const cache = usage.BuildCache ?? [];
  const layers = usage.LayersSize ?? 0;
  const usedImages = images.filter((image) => image.Containers > 0);
  // What used images have to themselves stays; layers that several share count as used as soon as one is.
  const kept = sum(usedImages.filter((image) => image.Size !== -1 && image.SharedSize !== -1).map((image) => image.Size - image.SharedSize));
  const size = (container: ContainerSummary) => container.SizeRw ?? 0;
  const volumeSize = (volume: VolumeJson) => Math.max(volume.UsageData?.Size ?? 0, 0);
  const links = (volume: VolumeJson) => volume.UsageData?.RefCount ?? 0;
  return [
    { type: "Images", total: images.length, active: usedImages.length, bytes: layers, reclaimable: layers - kept, share: true },
    {
      type: "Containers",
      total: containers.length,
      active: containers.filter(isActive).length,
      bytes: sum(containers.map(size)),
      reclaimable: sum(containers.filter((c) => !isActive(c)).map(size)),
      share: true,
    },
    {
      type: "Local Volumes",
      total: volumes.length,
      active: volumes.filter((v) => links(v) > 0).length,
      bytes: sum(volumes.map(volumeSize)),
      reclaimable: sum(volumes.filter((v) => links(v) === 0).map(volumeSize)),
      share: true,
    },
    {
      type: "Build Cache",
      total: cache.length,
      active: cache.filter(({ InUse }) => InUse).length,
      // What an image has too is counted there.
      bytes: sum(cache.filter(({ Shared }) => !Shared).map(({ Size }) => Size)),
      reclaimable: sum(cache.filter(({ InUse, Shared }) => !InUse && !Shared).map(({ Size }) => Size)),
      share: false,
    },
  ];
}

/** The fields of `--format` for a step of the build cache. */
function buildColumns(now: number): Columns<BuildCacheJson> {
  return {
    ID: { header: "CACHE ID", value: ({ ID }) => truncateId(ID) },
    Parent: { header: "PARENT", value: ({ Parent, Parents }) => (Parents ?? [Parent ?? ""]).map(truncateId).join(", ") },
    CacheType: { header: "CACHE TYPE", value: ({ Type }) => Type },
    Description: { header: "DESCRIPTION", value: ({ Description }) => Description },
    Size: { header: "SIZE", value: ({ Size }) => humanSize(Size) },
    CreatedAt: { header: "CREATED AT", value: ({ CreatedAt }) => goTime(Date.parse(CreatedAt) / 1000) },
    CreatedSince: { header: "CREATED", value: ({ CreatedAt }) => ago(Date.parse(CreatedAt), now) },
    LastUsedAt: { header: "LAST USED AT", value: ({ LastUsedAt }) => (LastUsedAt === null ? "" : goTime(Date.parse(LastUsedAt) / 1000)) },
    LastUsedSince: { header: "LAST USED", value: ({ LastUsedAt }) => (LastUsedAt === null ? "" : ago(Date.parse(LastUsedAt), now)) },
    UsageCount: { header: "USAGE", value: ({ UsageCount }) => String(UsageCount) },
    InUse: { header: "IN USE", value: ({ InUse }) => String(InUse) },
    Shared: { header: "SHARED", value: ({ Shared }) => String(Shared) },
  };
}

/** What each list shows. */
function listed(usage: DiskUsage): { readonly images: readonly ImageRow[]; readonly containers: readonly ContainerSummary[] } {
  return {
    images: (usage.Images ?? []).map((image: ImageSummary): ImageRow => ({ ...imageRows(image, false)[0]!, digest: "" })),
    containers: (usage.Containers ?? []).map((container) => ({ ...container, SizeRootFs: 0 })),
  };
}

/** By a template over all lists at once, or as JSON. */
function detailsBy(usage: DiskUsage, format: string): string {
  const now = Date.now();
  const { images, containers } = listed(usage);
  const lists = {
    Images: images.map((image) => row(image, imageColumns(true, now))),
    Containers: containers.map((container) => row(container, containerColumns(true, now))),
    Volumes: (usage.Volumes ?? []).map((volume) => row(volume, volumeColumns)),
    BuildCache: (usage.BuildCache ?? []).map((record) => row(record, buildColumns(now))),
  };
  if (format === "json" || format === "{{json .}}")
    return `{${Object.entries(lists)
      .map(([name, rows]) => `"${name}":[${rows.map(rowJson).join(",")}]`)
      .join(",")}}`;
  return compile(format).execute(lists, { strict: typed("*formatter.diskUsageContext", []) });
}

function details(usage: DiskUsage): string {
  const now = Date.now();
  const { images, containers } = listed(usage);
  const cache = usage.BuildCache ?? [];
  const imageTable = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
  const containerTable = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
  return [
    "Images space usage:\n",
    formatList(images, { columns: imageColumns(false, now), format: "", table: imageTable }),
    "Containers space usage:\n",
    formatList(containers, { columns: containerColumns(false, now), format: "", table: containerTable }),
    "Local Volumes space usage:\n",
    formatList(usage.Volumes ?? [], { columns: volumeColumns, format: "", table: "{{.Name}}\t{{.Links}}\t{{.Size}}" }),
    `Build cache usage: ${humanSize(sum(cache.filter(({ Shared }) => !Shared).map(({ Size }) => Size)))}\n`,
    formatList(cache, {
      columns: buildColumns(now),
      format: "",
      table: "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
    }),
  ].join("\n");
}
