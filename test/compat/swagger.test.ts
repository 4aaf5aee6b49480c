/** Every JSON reply against Docker's description of it, for each version whose description is there. Uses the small engine: shapes only, no container runs. */
import { afterAll, describe, expect, test } from "vitest";
import { createInProcessClient } from "#api/client/in-process.ts";
import { createApiServer } from "#api/server/mod.ts";
import { Query } from "#api/types/query.ts";
import type { ApiRequest, ApiResponse } from "#api/types/transport.ts";
import { knownDeviation } from "./deviations.ts";
import { createFakeEngine, newRecord } from "./fake-engine.ts";
import { descriptionPath, Swagger } from "./swagger.ts";

const engine = createFakeEngine();
const server = createApiServer(engine, { version: "0.1.0", log: () => undefined });
const client = createInProcessClient({ dispatch: server.dispatch, host: "" });

afterAll(() => server.close());

/** What 1.50 describes and this container, image and host have nothing to say for. A field that is not in this list is always sent. */
const leftOut: Readonly<Record<string, readonly string[]>> = {
  ContainerInspectResponse: ["ImageManifestDescriptor"],
  ContainerState: ["Health"],
  ContainerSummary: ["ImageManifestDescriptor"],
  HostConfig: ["KernelMemoryTCP", "Init", "Mounts", "Annotations", "StorageOpt", "Tmpfs", "Sysctls"],
  NetworkSettings: [],
  EndpointSettings: [],
  ImageInspect: ["Descriptor", "Manifests", "Variant", "OsVersion"],
  ImageSummary: ["Manifests", "Descriptor"],
  SystemInfo: ["KernelMemoryTCP", "ProductLicense", "DefaultAddressPools", "FirewallBackend", "DiscoveredDevices", "Containerd"],
  SystemVersion: ["Experimental", "BuildTime"],
  Volume: ["Status", "ClusterVolume"],
  Network: ["Peers"],
  ContainerStatsResponse: ["networks"],
  MountPoint: [],
};

/** A reply as a given version sends it. */
async function call(
  minor: number,
  method: string,
  path: string,
  query: Record<string, string> = {},
  body?: unknown,
): Promise<{ readonly status: number; readonly value: unknown }> {
  const request: ApiRequest = {
    method,
    path,
    minor,
    query: Query.of(query),
    headers: {},
    json: async () => body,
    get body(): never {
      throw new Error("no byte body here");
    },
    signal: new AbortController().signal,
  };
  const response: ApiResponse = await server.dispatch(request);
  if (response.kind === "pending") return { status: 200, value: await response.value };
  if (response.kind !== "json") return { status: "status" in response ? response.status : 0, value: undefined };
  return { status: response.status, value: JSON.parse(JSON.stringify(response.value)) as unknown };
}

async function aRunningContainer(): Promise<string> {
  const id = (await client.json<{ Id: string }>("POST", "/containers/create", { body: { Image: "busybox", Cmd: ["sh"], ExposedPorts: { "80/tcp": {} } } })).Id;
  const record = engine.records.get(id)!;
  engine.records.set(id, {
    ...newRecord("web", record.config),
    id,
    state: { ...record.state, status: "running", pid: 42, startedAt: new Date().toISOString() },
    mounts: [{ Type: "volume", Name: "v", Source: "/s", Destination: "/d", Driver: "local", Mode: "z", RW: true, Propagation: "", Anonymous: true }],
    ports: { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8080" }] },
    endpoints: {
      bridge: {
        NetworkName: "bridge",
        NetworkID: "b".repeat(64),
        EndpointID: "e".repeat(64),
        Gateway: "172.17.0.1",
        IPAddress: "172.17.0.2",
        IPPrefixLen: 16,
        IPv6Gateway: "",
        GlobalIPv6Address: "",
        GlobalIPv6PrefixLen: 0,
        MacAddress: "02:42:ac:11:00:02",
        Aliases: null,
        DNSNames: ["web"],
      },
    },
  });
  return id;
}

for (const minor of [40, 41, 44, 47, 50]) {
  const swagger = Swagger.shared(minor);
  const reason = `no description at ${descriptionPath(minor).replace(/^.*\/shared\//, "../shared/")}`;
  if (!swagger) console.warn(`1.${minor}: not checked: ${reason}`);
  describe.skipIf(!swagger)(`1.${minor}${swagger ? "" : ` (skipped: ${reason})`}`, () => {
    test("replies have the types and the required fields that are described", async () => {
      const id = await aRunningContainer();
      await engine.volumes.create({ name: "v", labels: { a: "b" } });
      const exec = await engine.execs.create(id, {
        AttachStdin: false,
        AttachStdout: true,
        AttachStderr: true,
        DetachKeys: "",
        Tty: false,
        Cmd: ["ls"],
        Env: null,
        WorkingDir: "",
        User: "1",
        Privileged: false,
      });
      const cases: readonly (readonly [method: string, path: string, described: string, query?: Record<string, string>, body?: unknown])[] = [
        ["GET", "/containers/json", "/containers/json", { all: "1", size: "1" }],
        ["GET", `/containers/${id}/json`, "/containers/{id}/json", { size: "1" }],
        ["GET", "/containers/none/json", "/containers/{id}/json"],
        ["GET", `/containers/${id}/top`, "/containers/{id}/top"],
        ["GET", `/containers/${id}/changes`, "/containers/{id}/changes"],
        ["GET", `/containers/${id}/stats`, "/containers/{id}/stats", { stream: "0", "one-shot": "1" }],
        ["POST", "/containers/create", "/containers/create", { name: `n${minor}` }, { Image: "busybox" }],
        ["POST", "/containers/create", "/containers/create", {}, { Image: "none" }],
        ["POST", "/containers/prune", "/containers/prune"],
        ["POST", `/containers/${id}/update`, "/containers/{id}/update", {}, { Memory: 1_000_000 }],
        ["GET", "/images/json", "/images/json", { all: "1" }],
        ["GET", "/images/busybox/json", "/images/{name}/json"],
        ["GET", "/images/busybox/history", "/images/{name}/history"],
        ["DELETE", "/images/busybox", "/images/{name}"],
        ["POST", "/images/prune", "/images/prune"],
        ["GET", "/info", "/info"],
        ["GET", "/version", "/version"],
        ["GET", "/system/df", "/system/df"],
        ["POST", `/containers/${id}/exec`, "/containers/{id}/exec", {}, { Cmd: ["ls"] }],
        ["GET", `/exec/${exec}/json`, "/exec/{id}/json"],
        ["GET", "/volumes", "/volumes"],
        ["GET", "/volumes/v", "/volumes/{name}"],
        ["POST", "/volumes/create", "/volumes/create", {}, { Name: "w" }],
        ["POST", "/volumes/prune", "/volumes/prune"],
        ["GET", "/networks", "/networks"],
        ["GET", "/networks/bridge", "/networks/{id}"],
        ["POST", "/networks/create", "/networks/create", {}, { Name: "n" }],
        ["POST", "/networks/prune", "/networks/prune"],
        ["GET", "/plugins", "/plugins"],
        ["GET", "/nodes", "/nodes"],
        ["GET", "/swarm", "/swarm"],
      ];
      const problems: string[] = [];
      for (const [method, path, described, query, body] of cases) {
        const reply = await call(minor, method, path, query, body);
        const what = `${method} ${described} ${reply.status}`;
        const found = swagger!.check(method, described, reply.status, reply.value).filter((problem) => knownDeviation(what, problem) === undefined);
        problems.push(...found.map((problem) => `${what}: ${problem}`));
      }
      expect(problems).toEqual([]);
      if (minor === 50) expect(Object.fromEntries(Object.keys(leftOut).map((name) => [name, swagger!.unseen(name)]))).toEqual(leftOut);
    });
  });
}
