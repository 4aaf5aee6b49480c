/** Images as Docker's JSON. Pure. @module */
import { rfc3339Nano, zeroTime } from "#core/clock.ts";
import type { ContainerConfig } from "#core/container-config.ts";
import type { Image } from "#image/mod.ts";
import type { HistoryItem, ImageInspect, ImageSummary } from "#api/types/image-json.ts";

const seconds = (time: string | undefined): number => {
  const ms = Date.parse(time ?? "");
  return Number.isNaN(ms) ? Math.floor(Date.parse(zeroTime) / 1000) : Math.floor(ms / 1000);
};

/** One entry of `GET /images/json`. `containers`: how many use it. */
export function imageSummary(image: Image, minor: number, containers: number): ImageSummary {
  return {
    Containers: minor >= 51 ? containers : -1,
    Created: seconds(image.config.created),
    Id: image.id,
    Labels: image.config.config?.Labels ?? null,
    ParentId: image.parent ?? "",
    RepoDigests: minor < 43 && image.repoDigests.length === 0 ? ["<none>@<none>"] : [...image.repoDigests],
    RepoTags: minor < 43 && image.repoTags.length === 0 ? ["<none>:<none>"] : [...image.repoTags],
    SharedSize: -1,
    Size: image.size,
    ...(minor < 44 ? { VirtualSize: image.size } : {}),
  };
}

/** `GET /images/{name}/json`. */
export function imageInspect(image: Image, minor: number, driver: string): ImageInspect {
  const { config } = image;
  return {
    Id: image.id,
    RepoTags: [...image.repoTags],
    RepoDigests: [...image.repoDigests],
    Parent: image.parent ?? "",
    Comment: config.comment ?? "",
    ...(config.created === undefined ? (minor < 44 ? { Created: zeroTime } : {}) : { Created: config.created }),
    // What the container of the last build step looked like. Docker dropped both at 1.45; compose 1.29 speaks the daemon's newest version and reads the second.
    ...(minor < 45 ? { Container: config.container ?? "" } : {}),
    ContainerConfig: containerConfigOf(image),
    DockerVersion: config.docker_version ?? "",
    Author: config.author ?? "",
    Config: imageConfig(config.config ?? null, minor),
    Architecture: config.architecture,
    ...(config.variant === undefined ? {} : { Variant: config.variant }),
    Os: config.os,
    ...(config["os.version"] === undefined ? {} : { OsVersion: config["os.version"] }),
    Size: image.size,
    ...(minor < 44 ? { VirtualSize: image.size } : {}),
    GraphDriver: { Data: {}, Name: driver },
    RootFS: { Type: "layers", ...(image.diffIds.length === 0 ? {} : { Layers: [...image.diffIds] }) },
    Metadata: { LastTagTime: image.lastTaggedNs === 0n ? zeroTime : rfc3339Nano(image.lastTaggedNs) },
  };
}

function containerConfigOf(image: Image): unknown {
  const raw = JSON.parse(new TextDecoder().decode(image.rawConfig)) as { container_config?: unknown };
  return { ...emptyConfig, ...(typeof raw.container_config === "object" ? raw.container_config : {}) };
}

/** Docker's config with nothing in it: every field that it always prints. */
const emptyConfig = {
  Hostname: "",
  Domainname: "",
  User: "",
  AttachStdin: false,
  AttachStdout: false,
  AttachStderr: false,
  Tty: false,
  OpenStdin: false,
  StdinOnce: false,
  Env: null,
  Cmd: null,
  Image: "",
  Volumes: null,
  WorkingDir: "",
  Entrypoint: null,
  OnBuild: null,
  Labels: null,
} as const;

/** Since 1.50 only what belongs to an image's configuration; before, the whole struct. */
function imageConfig(config: Partial<ContainerConfig> | null, minor: number): Partial<ContainerConfig> | null {
  if (minor < 50) return config === null ? null : ({ ...emptyConfig, ...config } as Partial<ContainerConfig>); // nulls as Docker prints them
  const {
    Hostname,
    Domainname,
    AttachStdin,
    AttachStdout,
    AttachStderr,
    Tty,
    OpenStdin,
    StdinOnce,
    Image: _image,
    NetworkDisabled,
    MacAddress,
    StopTimeout,
    ...rest
  } = config ?? {};
  const kept = { Cmd: null, Entrypoint: null, Env: null, Labels: null, OnBuild: null, User: "", Volumes: null, WorkingDir: "", ...rest };
  return kept as Partial<ContainerConfig>; // Labels is null, as Docker prints an unset map
}

/** `GET /images/{name}/history`, newest first. Sizes belong to the entries that made a layer. */
export function imageHistory(image: Image): HistoryItem[] {
  let layer = 0;
  const items = (image.config.history ?? []).map((entry): HistoryItem => {
    const size = entry.empty_layer ? 0 : (image.layerSizes[layer++] ?? 0);
    return { Id: "<missing>", Created: seconds(entry.created), CreatedBy: entry.created_by ?? "", Tags: null, Size: size, Comment: entry.comment ?? "" };
  });
  // Layers that no history entry speaks of (docker shows them as well).
  for (; layer < image.layerSizes.length; layer++) {
    items.push({ Id: "<missing>", Created: seconds(image.config.created), CreatedBy: "", Tags: null, Size: image.layerSizes[layer] ?? 0, Comment: "" });
  }
  items.reverse();
  const top = items[0];
  if (top) {
    top.Id = image.id;
    top.Tags = image.repoTags.length === 0 ? null : [...image.repoTags];
  }
  return items;
}
