/** `--gpus`, and CDI names in `--device`: what docker's CLI sends for them. @module */
import type { DeviceRequest } from "#core/container-config.ts";
import { splitFields } from "./csv.ts";

/** vendor.com/class=name. */
export function isCdiName(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9_.-]*\/[A-Za-z0-9][A-Za-z0-9_-]*=[A-Za-z0-9][A-Za-z0-9_.:-]*$/.test(text);
}

/** `all`, `2`, `device=0`, `"driver=nvidia,count=1,capabilities=compute"`. Throws Error with docker's reason. */
export function parseGpus(text: string): DeviceRequest {
  const request: DeviceRequest = { Driver: "", Count: 0, DeviceIDs: null, Capabilities: null, Options: {} };
  const seen = new Set<string>();
  for (const field of splitFields(text)) {
    const equals = field.indexOf("=");
    const key = equals < 0 ? "count" : field.slice(0, equals);
    const value = field.slice(equals + 1);
    if (seen.has(key)) throw new Error(`gpu request key '${key}' can be specified only once`);
    seen.add(key);
    if (key === "driver") request.Driver = value;
    else if (key === "count") request.Count = count(value);
    else if (key === "device") request.DeviceIDs = value.split(",");
    else if (key === "capabilities") request.Capabilities = [[...value.split(","), "gpu"]];
    else if (key === "options")
      request.Options = Object.fromEntries(splitFields(value).map((option) => option.split(/=(.*)/s).slice(0, 2) as [string, string]));
    else throw new Error(`unexpected key '${key}' in '${field}'`);
  }
  if (!seen.has("count") && request.DeviceIDs === null) request.Count = 1;
  request.Capabilities ??= [["gpu"]];
  return request;
}

function count(text: string): number {
  if (text === "all") return -1;
  if (!/^[+-]?\d+$/.test(text)) throw new Error(`invalid count (${text}): value must be either "all" or an integer: invalid syntax`);
  return Number(text);
}
