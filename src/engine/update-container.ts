/** `update`: limits and the restart policy of a container, while it runs. @module */
import type { Container } from "#container/container.ts";
import { validateRestartPolicy } from "#container/restart-policy.ts";
import { isRunning } from "#container/state.ts";
import type { HostConfig, ResourceConfig, RestartPolicy } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import { type EndpointRecord, parseEgress, parseShaping } from "#network/mod.ts";
import { limitsOf, slots } from "#runtime/mod.ts";
import { type EngineContext, publishContainerEvent } from "./context.ts";
import { requireCable, takeEgress } from "./create-container.ts";
import { processOf, serveNames } from "./network-endpoints.ts";
import { validateResources } from "./validate-resources.ts";

export async function updateContainer(
  ctx: EngineContext,
  name: string,
  resources: Partial<ResourceConfig>,
  restartPolicy: RestartPolicy | undefined,
): Promise<{ readonly warnings: string[] }> {
  const container = ctx.registry.get(name);
  return container.mutex.run(async () => {
    const { record } = container;
    if (container.removing || record.state.dead)
      throw new EngineError("conflict", `Cannot update container ${record.id}: container is marked for removal and cannot be "update"`);
    const hostConfig = merged(container, resources, restartPolicy);
    const warnings = validateResources(hostConfig, ctx.facts);
    const limits = changedLimits(record.hostConfig, hostConfig, resources);
    warnings.push(...ctx.cgroups.plan(hostConfig.CgroupParent, record.id, limits, slots.cgroup).warnings);
    if (isRunning(record.state) && record.cgroup !== undefined) await ctx.cgroups.update(record.cgroup, limits);
    const shaping = resources.WherryNetworkRate === undefined ? undefined : parseShaping(hostConfig.WherryNetworkRate);
    if (shaping !== undefined) {
      requireCable(hostConfig);
      await ctx.networks.checkShaping(shaping);
      if (isRunning(record.state)) await ctx.networks.shape(record.id, processOf(container), shaping);
    }
    if (resources.WherryEgress !== undefined) await takeEgress(ctx, resources.WherryEgress, hostConfig);
    const named = resources.WherryEgress === undefined ? undefined : await confine(ctx, container, hostConfig);
    container.set({ hostConfig, ...(named && { endpoints: { ...record.endpoints, [named.NetworkName]: named } }) });
    if (named !== undefined) await serveNames(ctx, container);
    await ctx.records.save(container.record);
    publishContainerEvent(ctx, container, "update");
    return { warnings: [...new Set(warnings)] };
  });
}

/** Its calls are confined to other rules while it runs. The endpoint that it got its name server with, if only now. */
async function confine(ctx: EngineContext, container: Container, { WherryEgress: rules = [], Dns: dns }: HostConfig): Promise<EndpointRecord | undefined> {
  if (!isRunning(container.state)) return undefined;
  return await ctx.networks.confine(container.id, processOf(container), { egress: parseEgress(rules), dns });
}

/** The limits as they shall be. 0 and null = not changed. @throws EngineError "conflict", or "invalid" for a restart policy, with Docker's texts */
function merged({ id, record: { hostConfig: old } }: Container, resources: Partial<ResourceConfig>, restartPolicy: RestartPolicy | undefined): HostConfig {
  const conflict = (why: string): never => {
    throw new EngineError("conflict", `Cannot update container ${id}: ${why}`);
  };
  const given = Object.fromEntries(
    Object.entries(resources).filter(([, value]) => value !== undefined && value !== null && value !== 0 && value !== ""),
  ) as Partial<ResourceConfig>;
  if (given.CpuPeriod !== undefined && old.NanoCpus > 0) conflict("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set");
  if (given.CpuQuota !== undefined && old.NanoCpus > 0) conflict("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set");
  if (given.NanoCpus !== undefined && old.CpuPeriod > 0) conflict("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set");
  if (given.NanoCpus !== undefined && old.CpuQuota > 0) conflict("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set");
  if (given.Memory !== undefined && given.MemorySwap === undefined && old.MemorySwap > 0 && given.Memory > old.MemorySwap) {
    conflict("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time");
  }
  const host: HostConfig = { ...old, ...given };
  for (const key of ["WherryUnified", "WherryNetworkRate", "WherryNetworkPriorities"] as const)
    if (given[key] !== undefined) Object.assign(host, { [key]: { ...old[key], ...given[key] } });
  if (restartPolicy !== undefined && restartPolicy.Name !== "") {
    if (old.AutoRemove) conflict("Restart policy cannot be updated because AutoRemove is enabled for the container");
    validateRestartPolicy(restartPolicy);
    host.RestartPolicy = restartPolicy;
  }
  // A first memory limit brings its swap limit, as at create.
  if (given.Memory !== undefined && host.MemorySwap === 0) host.MemorySwap = host.Memory * 2;
  return host;
}

/** Only what was asked for is written: other files of the cgroup may not be touched while it runs. */
function changedLimits(old: HostConfig, host: HostConfig, resources: Partial<ResourceConfig>): ReturnType<typeof limitsOf> {
  const limits = limitsOf({
    ...host,
    BlkioWeightDevice: null,
    BlkioDeviceReadBps: null,
    BlkioDeviceWriteBps: null,
    BlkioDeviceReadIOps: null,
    BlkioDeviceWriteIOps: null,
  });
  const before = limitsOf({
    ...old,
    BlkioWeightDevice: null,
    BlkioDeviceReadBps: null,
    BlkioDeviceWriteBps: null,
    BlkioDeviceReadIOps: null,
    BlkioDeviceWriteIOps: null,
  });
  const changed: ReturnType<typeof limitsOf> = {};
  for (const key of ["memory", "cpu", "pids", "blockIO", "network", "unified"] as const)
    if (JSON.stringify(limits[key]) !== JSON.stringify(before[key])) Object.assign(changed, { [key]: limits[key] ?? {} });
  if (resources.PidsLimit !== undefined && resources.PidsLimit !== null && resources.PidsLimit <= 0) changed.pids = { limit: -1 };
  return changed;
}
