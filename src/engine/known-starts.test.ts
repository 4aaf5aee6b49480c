import { describe, expect, it, test } from "vitest";
import { openCgroups } from "#cgroup/mod.ts";
import type { ContainerRecord } from "#container/mod.ts";
import { createdState } from "#container/state.ts";
import type { HostConfig } from "#core/container-config.ts";
import { newId, shortId } from "#core/ids.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { encodePlan } from "#linux/encode.ts";
import { exampleConfig, exampleFacts, exampleHostConfig } from "#runtime/example.fixture.ts";
import { buildSpec, planContainer, seccompProgram, slots } from "#runtime/mod.ts";
import { KnownStarts, shapeOf } from "./known-starts.ts";

function recordOf(id: string, host: Partial<HostConfig> = {}): ContainerRecord {
  return {
    version: 1,
    id,
    name: `name-of-${id}`,
    created: new Date().toISOString(),
    imageId: "",
    path: "sh",
    args: [],
    config: { ...exampleConfig, Hostname: shortId(id) },
    hostConfig: { ...exampleHostConfig, ...host },
    networkingConfig: { EndpointsConfig: {} },
    state: createdState,
    mounts: [],
    endpoints: {},
    ports: {},
    cgroup: undefined,
    driver: "overlay2",
    snapshot: id,
    restartCount: 0,
    manuallyStopped: false,
    hostnamePath: `/c/${id}/hostname`,
    hostsPath: `/c/${id}/hosts`,
    resolvConfPath: `/c/${id}/resolv.conf`,
    logPath: `/c/${id}/${id}-json.log`,
  };
}

const v1: HostFacts = {
  ...exampleFacts,
  cgroup: { mode: "v1", v1: { cpu: "/cg/cpu", memory: "/cg/memory", devices: "/cg/devices" }, v2Controllers: [], own: {}, kill: false },
};

/** As start-container.ts plans it. */
function planOf(record: ContainerRecord, facts: HostFacts) {
  const { id, config, hostConfig } = record;
  const { spec, files } = buildSpec({
    id,
    config,
    hostConfig,
    args: [record.path, ...record.args],
    user: { uid: 0, gid: 0, additionalGids: [], home: "/" },
    mounts: [],
    files: { hostname: record.hostnamePath, hosts: record.hostsPath, resolvConf: record.resolvConfPath },
    cgroupsPath: `/wherry/${id}`,
    join: {},
    facts,
    devices: [],
    deviceNumbers: {},
    userns: undefined,
  });
  const cgroup = openCgroups(facts).plan("", id, spec.linux?.resources ?? {}, slots.cgroup);
  const dir = `/o/${id}`;
  const root = { kind: "overlay", lower: ["/o/l/diff"], links: ["l/A"], linkDir: "/o", upper: `${dir}/diff`, work: `${dir}/work`, options: [] } as const;
  const seccomp = seccompProgram(spec.linux?.seccomp, facts);
  return { cgroup, plan: planContainer({ spec, root, facts, cgroup, network: [], tty: config.Tty, seccomp, attachGate: false, files, id }) };
}

describe("a start that has been planned before", () => {
  const hosts: Partial<HostConfig>[] = [
    {},
    { Memory: 64 << 20, PidsLimit: 20 },
    { ReadonlyRootfs: true, UTSMode: "host" },
    { IpcMode: "none", CapAdd: ["NET_ADMIN"] },
  ];
  test.each(hosts.flatMap((host) => [exampleFacts, v1].map((facts) => ({ host, facts }))))(
    "is what would be planned: $host, cgroup $facts.cgroup.mode",
    ({ host, facts }) => {
      const [a, b] = [newId(), newId()];
      const [first, second] = [recordOf(a, host), recordOf(b, host)];
      const shape = shapeOf(first) ?? "";
      expect(shapeOf(second)).toBe(shape);
      const known = new KnownStarts();
      const planned = planOf(first, facts);
      known.add(shape, a, planned.plan, planned.cgroup);
      const found = known.find(shape, b);
      const wanted = planOf(second, facts);
      expect(found?.plan([]).steps).toEqual(wanted.plan.steps);
      expect(encodePlan(found?.plan([]) ?? { steps: [] }).done()).toEqual(encodePlan(wanted.plan).done());
      expect(found?.cgroup).toEqual({ paths: wanted.cgroup.paths, exitReports: wanted.cgroup.exitReports });
    },
  );

  it("is of another kind when anything differs that a plan may depend on", () => {
    const id = newId();
    const shape = shapeOf(recordOf(id));
    expect(shapeOf(recordOf(id, { Memory: 1 << 20 }))).not.toBe(shape);
    expect(shapeOf({ ...recordOf(id), path: "ls" })).not.toBe(shape);
    expect(shapeOf(recordOf(id), ["another root"])).not.toBe(shape);
    const named = recordOf(id);
    expect(shapeOf({ ...named, config: { ...named.config, Hostname: "fixed" } })).not.toBe(shape);
  });

  it("is not known of a container whose plan depends on what the host has", () => {
    const id = newId();
    expect(shapeOf(recordOf(id, { Privileged: true }))).toBeUndefined();
    expect(shapeOf(recordOf(id, { Devices: [{ PathOnHost: "/dev/x", PathInContainer: "", CgroupPermissions: "" }] }))).toBeUndefined();
    expect(shapeOf(recordOf(id, { BlkioDeviceReadBps: [{ Path: "/dev/x", Rate: 1 }] }))).toBeUndefined();
    const mount = { Type: "bind", Source: "/s", Destination: "/d" } as ContainerRecord["mounts"][number]; // its other fields do not matter
    expect(shapeOf({ ...recordOf(id), mounts: [mount] })).toBeUndefined();
  });

  it("is forgotten when others have been planned since", () => {
    const known = new KnownStarts();
    for (let i = 0; i < 40; i++) known.warnings.set(`${i}`, [`${i}`]);
    expect(known.warnings.get("39")).toEqual(["39"]);
    expect(known.warnings.get("0")).toBeUndefined();
  });
});
