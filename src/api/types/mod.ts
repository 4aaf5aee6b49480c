/**
 * The wire's vocabulary: what requests mean (parsed at this border, trusted behind it) and what replies look like. Pure; knows no engine and no socket.
 * Names and nesting are Docker's, so a type here reads like the Engine API's reference.
 * @module
 * @see https://docs.docker.com/reference/api/engine/version/v1.51/
 */
export type {
  ChangeItem,
  ContainerInspect,
  ContainerSummary,
  EndpointJson,
  ExecInspect,
  MountJson,
  PortJson,
  TopResult,
  WaitResult,
} from "./container-json.ts";
export type { DeleteItem, HistoryItem, ImageInspect, ImageSummary } from "./image-json.ts";
export type { BuildCacheJson, DiskUsage, EventJson, NetworkJson, SystemInfoJson, VersionJson, VolumeJson, VolumeListJson } from "./system-json.ts";
export type { CpuStatsJson, StatsJson } from "./stats-json.ts";
export type { ProgressLine } from "./progress.ts";
export type { ApiRequest, ApiResponse, DirectStdio, Dispatch, ErrorBody, Headers } from "./transport.ts";
export { apiVersion, minApiVersion } from "./version.ts";
