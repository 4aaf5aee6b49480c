/** What a prune would remove, for `--dry-run`: read from the lists, with docker's rules for what is unused. @module */
import type { ContainerSummary, DiskUsage, ImageSummary, NetworkJson, VolumeListJson } from "#api/types/mod.ts";
import type { Call } from "./command.ts";
import { filtersQuery } from "./list-flags.ts";

type Pair = readonly [string, string];

/** Text about what goes, and how many bytes it holds. */
export interface Pruned {
  readonly text: string;
  readonly bytes: number;
}

export function section(title: string, lines: readonly string[]): string {
  return lines.length === 0 ? "" : `${title}:\n${lines.join("\n")}\n`;
}

/** A duration ("24h") or a time, as docker's `until`. Seconds since 1970. */
function untilOf(pairs: readonly Pair[]): number {
  const text = pairs.find(([key]) => key === "until")?.[1];
  if (text === undefined) return Number.POSITIVE_INFINITY;
  const units: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600 };
  const parts = [...text.matchAll(/([0-9.]+)([smh])/g)];
  if (parts.length > 0 && parts.map(([all]) => all).join("") === text)
    return Date.now() / 1000 - parts.reduce((sum, [, number, unit]) => sum + Number(number) * (units[unit ?? ""] ?? 0), 0);
  const seconds = /^[0-9.]+$/.test(text) ? Number(text) : Date.parse(text) / 1000;
  if (Number.isNaN(seconds)) throw new Error(`invalid filter until=${text}: use a duration such as 24h, or a time`);
  return seconds;
}

function labelled(labels: Readonly<Record<string, string>> | null | undefined, pairs: readonly Pair[]): boolean {
  const has = (text: string) => {
    const [key = "", value] = text.split(/=(.*)/s);
    const found = labels?.[key];
    return value === undefined ? found !== undefined : found === value;
  };
  return pairs.every(([key, text]) => (key === "label" ? has(text) : key !== "label!" || !has(text)));
}

const stopped = ["created", "exited", "dead"];

async function containersOf({ client, io }: Call, size: boolean): Promise<ContainerSummary[]> {
  return client.json<ContainerSummary[]>("GET", "/containers/json", { query: { all: 1, size: size ? 1 : undefined }, signal: io.gone });
}

export async function previewContainers(call: Call, pairs: readonly Pair[]): Promise<Pruned> {
  const until = untilOf(pairs);
  const gone = (await containersOf(call, true)).filter((c) => stopped.includes(c.State) && c.Created <= until && labelled(c.Labels, pairs));
  return {
    text: section(
      "Would delete containers",
      gone.map((c) => `${c.Id.slice(0, 12)} ${c.Names.map((name) => name.replace(/^\//, "")).join(",")} (${c.Status})`),
    ),
    bytes: gone.reduce((sum, c) => sum + (c.SizeRw ?? 0), 0),
  };
}

export async function previewImages(call: Call, pairs: readonly Pair[]): Promise<Pruned> {
  const { client, flags, io } = call;
  const until = untilOf(pairs);
  const filters = filtersQuery(flags.on("all") ? [] : [["dangling", "true"]]);
  const images = await client.json<ImageSummary[]>("GET", "/images/json", { query: { filters }, signal: io.gone });
  const used = new Set((await containersOf(call, false)).filter((c) => !stopped.includes(c.State) || !isSystem(call)).map((c) => c.ImageID));
  const gone = images.filter((image) => !used.has(image.Id) && image.Created <= until && labelled(image.Labels, pairs));
  return {
    text: section(
      "Would delete images",
      gone.map((image) => `${image.Id.replace("sha256:", "").slice(0, 12)} ${image.RepoTags?.join(", ") || "<none>"}`),
    ),
    bytes: gone.reduce((sum, image) => sum + image.Size - Math.max(0, image.SharedSize), 0),
  };
}

/** `system prune` removes the stopped containers first: their images are unused then. */
function isSystem({ path }: Call): boolean {
  return path.endsWith("system prune");
}

/** Of what other steps stand on the list does not tell: without `--all` it may be less. */
export async function previewBuilds({ client, flags, io }: Call, pairs: readonly Pair[]): Promise<Pruned> {
  const until = untilOf(pairs);
  const { BuildCache: records = [] } = await client.json<DiskUsage>("GET", "/system/df", { query: { type: "build-cache" }, signal: io.gone });
  const labels = pairs.some(([key]) => key === "label"); // a step has none
  const gone = labels ? [] : records.filter((record) => !record.InUse && Date.parse(record.LastUsedAt ?? record.CreatedAt) / 1000 <= until);
  return {
    text: section(
      `Would delete build cache objects${flags.on("all") ? "" : " (at most)"}`,
      gone.map((record) => `${record.ID} ${record.Description}`),
    ),
    bytes: gone.reduce((sum, record) => sum + (record.Shared ? 0 : record.Size), 0),
  };
}

const builtIn = ["bridge", "host", "none"];

export async function previewNetworks(call: Call, pairs: readonly Pair[]): Promise<Pruned> {
  const { client, io } = call;
  const until = untilOf(pairs);
  const networks = await client.json<NetworkJson[]>("GET", "/networks", { signal: io.gone });
  const containers = (await containersOf(call, false)).filter((c) => !stopped.includes(c.State) || !isSystem(call));
  const used = new Set(containers.flatMap((c) => [c.HostConfig.NetworkMode, ...Object.keys(c.NetworkSettings.Networks)]));
  const gone = networks.filter(
    (n) => !builtIn.includes(n.Name) && !used.has(n.Name) && !used.has(n.Id) && Date.parse(n.Created) / 1000 <= until && labelled(n.Labels, pairs),
  );
  return {
    text: section(
      "Would delete networks",
      gone.map((n) => n.Name),
    ),
    bytes: 0,
  };
}

export async function previewVolumes({ client, io }: Call, pairs: readonly Pair[], named: boolean): Promise<Pruned> {
  const { Volumes: volumes } = await client.json<VolumeListJson>("GET", "/volumes", {
    query: { filters: filtersQuery([["dangling", "true"]]) },
    signal: io.gone,
  });
  const usage = await client.json<{ readonly Volumes: VolumeListJson["Volumes"] }>("GET", "/system/df", { query: { type: "volume" }, signal: io.gone });
  const anonymous = (name: string, labels: Readonly<Record<string, string>> | null) =>
    Object.hasOwn(labels ?? {}, "com.docker.volume.anonymous") || /^[0-9a-f]{64}$/.test(name);
  const gone = (volumes ?? []).filter((v) => (named || anonymous(v.Name, v.Labels)) && labelled(v.Labels, pairs));
  const bytes = gone.reduce((sum, v) => sum + Math.max(0, usage.Volumes?.find((u) => u.Name === v.Name)?.UsageData?.Size ?? 0), 0);
  return {
    text: section(
      "Would delete volumes",
      gone.map((v) => v.Name),
    ),
    bytes,
  };
}
