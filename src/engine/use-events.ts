/** What docker tells of a container's networks and volumes when it starts, and when it has ended. @module */
import type { ContainerRecord } from "#container/mod.ts";
import type { EngineContext } from "./context.ts";

type Told = Pick<EngineContext, "events" | "networks">;

/** Just before its `start`. */
export function tellUse(ctx: Told, record: ContainerRecord): void {
  tellNetworks(ctx, record, "connect");
  for (const { Type, Name: name = "", Driver: driver = "", Destination: destination, RW, Propagation: propagation } of record.mounts)
    if (Type === "volume") ctx.events.publish("volume", "mount", name, { container: record.id, destination, driver, propagation, "read/write": String(RW) });
}

/** Just after its `die`; `record` is that of the run. */
export function tellEndOfUse(ctx: Told, record: ContainerRecord): void {
  tellNetworks(ctx, record, "disconnect");
  for (const { Type, Name: name = "", Driver: driver = "" } of record.mounts)
    if (Type === "volume") ctx.events.publish("volume", "unmount", name, { container: record.id, driver });
}

function tellNetworks({ events, networks }: Told, { id, endpoints }: ContainerRecord, action: "connect" | "disconnect"): void {
  for (const [name, { NetworkID }] of Object.entries(endpoints)) {
    const driver = networks.list().find(({ Id }) => Id === NetworkID)?.Driver; // undefined: it was removed by force
    events.publish("network", action, NetworkID, { container: id, name, ...(driver === undefined ? {} : { type: driver }) });
  }
}
