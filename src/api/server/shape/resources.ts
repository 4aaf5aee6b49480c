/** Networks, volumes and events as Docker's JSON. Pure. @module */
import type { EngineEvent } from "#engine/mod.ts";
import type { EndpointRecord, NetworkRecord } from "#network/mod.ts";
import type { VolumeRecord } from "#volume/mod.ts";
import type { NetworkJson, VolumeJson } from "#api/types/system-json.ts";

/** A network; `members` only when it is inspected. */
export function networkJson(
  record: NetworkRecord,
  members: readonly { readonly containerId: string; readonly name: string; readonly endpoint: EndpointRecord }[],
): NetworkJson {
  const address = (ip: string, bits: number): string => (ip === "" ? "" : `${ip}/${bits}`);
  return {
    Name: record.Name,
    Id: record.Id,
    Created: record.Created,
    Scope: record.Scope,
    Driver: record.Driver,
    EnableIPv4: true,
    EnableIPv6: record.EnableIPv6,
    IPAM: { Driver: record.IPAM.Driver, Options: record.IPAM.Options, Config: record.IPAM.Config },
    Internal: record.Internal,
    Attachable: record.Attachable,
    Ingress: record.Ingress,
    ConfigFrom: { Network: "" },
    ConfigOnly: false,
    Containers: Object.fromEntries(
      members.map(({ containerId, name, endpoint }) => [
        containerId,
        {
          Name: name,
          EndpointID: endpoint.EndpointID,
          MacAddress: endpoint.MacAddress,
          IPv4Address: address(endpoint.IPAddress, endpoint.IPPrefixLen),
          IPv6Address: address(endpoint.GlobalIPv6Address, endpoint.GlobalIPv6PrefixLen),
        },
      ]),
    ),
    Options: record.Options,
    Labels: record.Labels,
  };
}

/** A volume; with usage only in `system df`. */
export function volumeJson(record: VolumeRecord, usage?: { readonly bytes: number; readonly users: number }): VolumeJson {
  return {
    CreatedAt: record.CreatedAt,
    Driver: record.Driver,
    Labels: record.Labels,
    Mountpoint: record.Mountpoint,
    Name: record.Name,
    Options: record.Options,
    Scope: record.Scope,
    ...(usage === undefined ? {} : { UsageData: { Size: usage.bytes, RefCount: usage.users } }),
  };
}

/** One event; `timeNano` stays a bigint, so that no digit is lost on the wire. Undefined: this version does not send it. */
export function eventJson(event: EngineEvent, minor: number): Record<string, unknown> | undefined {
  const { Type, Action, Actor } = event;
  if (Type === "image" && Action === "create" && minor < 46) return undefined;
  // The fields of API 1.21 and before, which docker sent up to 1.51.
  const legacy =
    minor >= 52
      ? {}
      : Type === "container"
        ? { status: Action, id: Actor.ID, from: Actor.Attributes.image ?? "" }
        : Type === "image"
          ? { status: Action, id: Actor.ID }
          : {};
  return { ...legacy, Type, Action, Actor, scope: "local", time: Number(event.timeNano / 1_000_000_000n), timeNano: event.timeNano };
}
