/** Images: list, inspect, history, tag, delete, prune, commit. @module */
import { EngineError } from "#core/errors.ts";
import { parseReference } from "#core/reference.ts";
import type { ImageID } from "#core/digest.ts";
import type { Image } from "#image/mod.ts";
import { applyChanges, mergeConfig } from "#engine/config-changes.ts";
import { containerConfig } from "#api/types/container-config.ts";
import { filterKeys, parseFilters } from "#api/types/filters.ts";
import type { ImageSummary } from "#api/types/image-json.ts";
import type { ApiRequest, ApiResponse } from "#api/types/transport.ts";
import { imageFilter, referenceMatcher } from "../image-filters.ts";
import type { Context, Route } from "../router.ts";
import { imageHistory, imageInspect, imageSummary } from "../shape/image.ts";

/** Untagged images below others are hidden unless `all` is asked for. */
function visible(images: readonly Image[], all: boolean): readonly Image[] {
  if (all) return images;
  const parents = new Set(images.map((image) => image.parent));
  return images.filter((image) => image.repoTags.length > 0 || !parents.has(image.id));
}

/** Newest first. */
export async function imageSummaries(request: ApiRequest, { engine }: Context): Promise<ImageSummary[]> {
  const { query, minor } = request;
  const given = parseFilters(query.text("filters"), filterKeys.images);
  // Before 1.41 a pattern could come as `filter`.
  const legacy = query.text("filter");
  const filters = minor < 41 && legacy !== "" ? { ...given, reference: [legacy] } : given;
  const matches = await imageFilter(filters, (name) => engine.images.get(name));
  // An image is listed under those of its names that were asked for.
  const named = filters.reference?.length ? referenceMatcher(filters.reference) : undefined;
  return visible(await engine.images.list(), query.flag("all"))
    .filter(matches)
    .map((image) => (named ? { ...image, repoTags: image.repoTags.filter(named), repoDigests: image.repoDigests.filter(named) } : image))
    .map((image) => imageSummary(image, minor, engine.images.users(image.id).length))
    .sort((a, b) => b.Created - a.Created);
}

/** `repo` and `tag` of a query as one reference; undefined when there is no repo. */
export function referenceOf(repo: string, tag: string): string | undefined {
  if (repo === "") return undefined;
  if (repo.includes("@")) throw new EngineError("invalid", "refusing to create a tag with a digest reference");
  parseReference(repo); // an id is no repository, whatever tag it is given
  return tag === "" ? repo : `${repo}:${tag}`;
}

async function commit(request: ApiRequest, { engine }: Context): Promise<ApiResponse> {
  const { query } = request;
  const name = query.text("container");
  const { config } = engine.containers.get(name);
  const body = (await request.json()) ?? {};
  const asked = applyChanges(containerConfig(body, ""), query.all("changes"));
  const reference = referenceOf(query.text("repo"), query.text("tag"));
  const id: ImageID = await engine.containers.commit(name, {
    ...(reference === undefined ? {} : { reference }),
    comment: query.text("comment"),
    author: query.text("author"),
    pause: query.flag("pause", true),
    changes: mergeConfig(asked, config),
  });
  return { kind: "json", status: 201, value: { Id: id } };
}

export const imageRoutes: readonly Route[] = [
  ["GET", "/images/json", async (request, context) => ({ kind: "json", status: 200, value: await imageSummaries(request, context) })],
  [
    "POST",
    "/images/prune",
    async (request, { engine }) => {
      const pruned = await engine.images.prune(parseFilters(request.query.text("filters"), filterKeys.pruneImages));
      return { kind: "json", status: 200, value: { ImagesDeleted: pruned.deleted, SpaceReclaimed: pruned.bytes } };
    },
  ],
  [
    "GET",
    "/images/{name:.*}/json",
    async (request, { engine }, name) => {
      const [image, info] = await Promise.all([engine.images.get(name!), engine.system.info()]);
      return { kind: "json", status: 200, value: imageInspect(image, request.minor, info.driver) };
    },
  ],
  [
    "GET",
    "/images/{name:.*}/history",
    async (_request, { engine }, name) => ({ kind: "json", status: 200, value: imageHistory(await engine.images.get(name!)) }),
  ],
  [
    "POST",
    "/images/{name:.*}/tag",
    async (request, { engine }, name) => {
      const reference = referenceOf(request.query.text("repo"), request.query.text("tag"));
      if (reference === undefined) throw new EngineError("invalid", "invalid reference format");
      await engine.images.tag(name!, reference);
      return { kind: "empty", status: 201 };
    },
  ],
  [
    "DELETE",
    "/images/{name:.*}",
    async (request, { engine }, name) => ({
      kind: "json",
      status: 200,
      value: await engine.images.remove(name!, { force: request.query.flag("force"), prune: !request.query.flag("noprune") }),
    }),
  ],
  ["POST", "/commit", commit],
];
