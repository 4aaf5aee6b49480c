/** Volumes. @module */
import { filterKeys, parseFilters } from "#api/types/filters.ts";
import { parseVolumeCreate } from "#api/types/requests.ts";
import type { VolumeListJson } from "#api/types/system-json.ts";
import type { Route } from "../router.ts";
import { volumeJson } from "../shape/resources.ts";

export const volumeRoutes: readonly Route[] = [
  [
    "GET",
    "/volumes",
    (request, { engine }) => {
      const filters = parseFilters(request.query.text("filters"), filterKeys.volumes);
      const value: VolumeListJson = { Volumes: engine.volumes.list(filters).map((record) => volumeJson(record)), Warnings: null };
      return { kind: "json", status: 200, value };
    },
  ],
  [
    "POST",
    "/volumes/create",
    async (request, { engine }) => {
      const body = parseVolumeCreate(await request.json(), "");
      const record = await engine.volumes.create({
        ...(body.Name === "" ? {} : { name: body.Name }),
        driver: body.Driver,
        labels: body.Labels,
        options: body.DriverOpts,
      });
      return { kind: "json", status: 201, value: volumeJson(record) };
    },
  ],
  [
    "POST",
    "/volumes/prune",
    async (request, { engine }) => {
      const filters = parseFilters(request.query.text("filters"), filterKeys.pruneVolumes);
      // Before 1.42 named volumes went as well.
      const pruned = await engine.volumes.prune(request.minor < 42 ? { ...filters, all: ["true"] } : filters);
      return { kind: "json", status: 200, value: { VolumesDeleted: pruned.deleted, SpaceReclaimed: pruned.bytes } };
    },
  ],
  ["GET", "/volumes/{name}", (_request, { engine }, name) => ({ kind: "json", status: 200, value: volumeJson(engine.volumes.get(name!)) })],
  [
    "DELETE",
    "/volumes/{name}",
    async (request, { engine }, name) => {
      await engine.volumes.remove(name!, request.query.flag("force"));
      return { kind: "empty", status: 204 };
    },
  ],
];
