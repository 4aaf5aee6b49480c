/** `network connect` and `disconnect`: a container joins or leaves a network, while it runs or before. @module */
import { open } from "node:fs/promises";
import type { Container } from "#container/container.ts";
import type { ContainerRecord } from "#container/mod.ts";
import { isRunning } from "#container/state.ts";
import { type EndpointConfig, plainEndpoint } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import { type EndpointRecord, type NetworkRecord, isUserSpace, type RunningProcess } from "#network/mod.ts";
import { hostLines, resolvConfOf } from "./container-files.ts";
import type { EngineContext } from "./context.ts";
import { checkLinks } from "./links.ts";
import { joinRequest, publishedPorts } from "./start-container.ts";
import { checkEndpoint } from "./unsupported-options.ts";

export async function connect(ctx: EngineContext, network: NetworkRecord, container: Container, asked: EndpointConfig | undefined): Promise<void> {
  await container.mutex.run(async () => {
    const { hostConfig, networkingConfig, name } = container.record;
    if (hostConfig.NetworkMode === "host" || network.Name === "host")
      throw new EngineError("denied", "cannot connect container to host network - container must be created in host network mode");
    if (hostConfig.NetworkMode.startsWith("container:"))
      throw new EngineError("denied", "container sharing network namespace with another container or host cannot be connected to any other network");
    if (isUserSpace(hostConfig.NetworkMode))
      throw new EngineError("denied", `a container in the network mode ${hostConfig.NetworkMode} cannot be connected to other networks`);
    if (hostConfig.NetworkMode === "none" || network.Name === "none")
      throw new EngineError("denied", "container cannot be connected to multiple networks with one of the networks in private (none) mode");
    if (keyOf(container.record, network) !== undefined) throw new EngineError("denied", `endpoint with name ${name} already exists in network ${network.Name}`);
    const endpoint = asked ?? plainEndpoint;
    // The API has no place for warnings here.
    for (const warning of checkEndpoint(network.Name, endpoint)) ctx.log("warn", `${name}: ${warning}`);
    checkLinks(ctx, endpoint.Links ?? []);
    const wanted = { EndpointsConfig: { ...networkingConfig.EndpointsConfig, [network.Name]: endpoint } };
    if (isRunning(container.state)) await plug(ctx, { ...container.record, networkingConfig: wanted }, container, network);
    container.set({ networkingConfig: wanted });
    await ctx.records.save(container.record);
  });
}

async function plug(ctx: EngineContext, record: ContainerRecord, container: Container, network: NetworkRecord): Promise<void> {
  const request = joinRequest(ctx, record, network.Name, publishedPorts(record));
  const { endpoint, ports } = await ctx.networks.plug(request, processOf(container));
  container.set({ endpoints: { ...record.endpoints, [network.Name]: endpoint }, ports: { ...record.ports, ...ports } });
  await changeFile(ctx, record, record.hostsPath, (text) => text + hostLines(record, [endpoint]));
  if (endpoint.NameServer === true) await serveNames(ctx, container);
}

/** A running container whose network namespace has the way to its name server asks it from now on. */
export async function serveNames(ctx: EngineContext, container: Container): Promise<void> {
  const { record, link } = container;
  if (link === undefined) return;
  await ctx.networks.serveNames(container.id, link, record.hostConfig.Dns);
  const resolvConf = await resolvConfOf(ctx, record);
  await changeFile(ctx, record, record.resolvConfPath, () => resolvConf);
}

export async function disconnect(ctx: EngineContext, network: NetworkRecord, container: Container, force: boolean): Promise<void> {
  await container.mutex.run(async () => {
    const { record } = container;
    if (record.hostConfig.NetworkMode === "host" || network.Name === "host")
      throw new EngineError("denied", "container cannot be disconnected from host network or connected to host network");
    const key = keyOf(record, network);
    if (key === undefined) {
      if (force) return;
      throw new EngineError("denied", `container ${container.id} is not connected to network ${network.Name}`);
    }
    const { [key]: _asked, ...others } = record.networkingConfig.EndpointsConfig;
    const { [network.Name]: gone, ...endpoints } = record.endpoints;
    let { ports } = record;
    if (isRunning(container.state)) {
      ports = { ...ports, ...(await ctx.networks.unplug(container.id, network.Id, processOf(container))).ports };
      if (gone !== undefined) await changeFile(ctx, record, record.hostsPath, (text) => withoutLines(text, gone));
    }
    container.set({ networkingConfig: { EndpointsConfig: others }, endpoints, ports });
    await ctx.records.save(container.record);
  });
}

export const processOf = ({ state }: Container): RunningProcess => ({ pid: state.pid, startTime: BigInt(state.startTime) });

/** Under which name the container was put on this network: its name, its id, or the beginning of one. */
function keyOf({ networkingConfig }: ContainerRecord, { Name, Id }: NetworkRecord): string | undefined {
  const keys = Object.keys(networkingConfig.EndpointsConfig);
  return keys.find((key) => key === Name) ?? keys.find((key) => key === Id || (key.length >= 12 && Id.startsWith(key)));
}

/** A program in the container may have written to its file: what it has there stays, up to this size. */
const SIZE_LIMIT = 1 << 20;

/** Changes a file of a running container: the same file, because it is bound into the container. */
async function changeFile(ctx: EngineContext, { name }: ContainerRecord, path: string, change: (text: string) => string): Promise<void> {
  const file = await open(path, "r+");
  try {
    if ((await file.stat()).size > SIZE_LIMIT) {
      ctx.log("warn", `${path}, a file of ${name}, has grown beyond ${SIZE_LIMIT} bytes: it is left as it is`);
      return;
    }
    const text = Buffer.from(change(await file.readFile("utf8")));
    await file.write(text, 0, text.length, 0);
    await file.truncate(text.length);
  } finally {
    await file.close();
  }
}

function withoutLines(text: string, { IPAddress, GlobalIPv6Address }: EndpointRecord): string {
  const gone = [IPAddress, GlobalIPv6Address].filter((address) => address !== "");
  return text
    .split("\n")
    .filter((line) => !gone.some((address) => line.startsWith(`${address}\t`)))
    .join("\n");
}
