import { expect, test } from "vitest";
import type { MountPoint } from "#container/mod.ts";
import type { ContainerConfig, HostConfig } from "#core/container-config.ts";
import { parseBind, wantedMounts } from "./mount-points.ts";

const mounts = (host: Partial<HostConfig>, volumes: Record<string, Record<string, never>> = {}, from: MountPoint[] = []) =>
  wantedMounts({ Volumes: volumes } as ContainerConfig, { VolumeDriver: "", ...host } as HostConfig, () => from);

test.each([
  ["/h:/c", { Type: "bind", Source: "/h", Destination: "/c", Mode: "", RW: true, Propagation: "rprivate" }],
  ["/h/../x//y/:/c/:ro,Z,rshared", { Source: "/x/y", Destination: "/c", Mode: "ro,Z,rshared", RW: false, Propagation: "rshared" }],
  ["v:/c", { Type: "volume", Name: "v", RW: true, Propagation: "", CopyUp: true, Driver: "local" }],
  ["v:/c:ro,nocopy", { Type: "volume", RW: false }],
  ["/c", { Type: "volume", Name: "", Anonymous: true, Destination: "/c" }],
])("%s", (spec, want) => {
  expect(parseBind(spec, "")).toMatchObject(want);
});

test.each([
  ["", "invalid volume specification: ''"],
  ["/a:rw", "invalid volume specification: '/a:rw'"],
  ["/a:/b:c:d", "invalid volume specification: '/a:/b:c:d'"],
  ["/a:/b:ro,rw", "invalid volume specification: '/a:/b:ro,rw': invalid mode: ro,rw"],
  ["/a:b", "invalid volume specification: '/a:b': invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute"],
  ["/a:/", "destination can't be '/'"],
  [
    "./a:/b",
    'includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path',
  ],
])("%s is refused", (spec, text) => {
  expect(() => parseBind(spec, "")).toThrow(text);
});

test("precedence: volumes-from < binds < image volumes only where nothing is", () => {
  const from: MountPoint[] = [
    { Type: "volume", Name: "old", Source: "/s", Destination: "/a", Mode: "", RW: true, Propagation: "", Anonymous: true, CopyUp: true },
    { Type: "bind", Source: "/s", Destination: "/b", Mode: "", RW: true, Propagation: "rprivate" },
  ];
  const all = mounts({ VolumesFrom: ["x:ro"], Binds: ["new:/b"], Tmpfs: { "/t": "" } }, { "/a": {}, "/b/": {}, "/c": {}, "/t": {} }, from);
  expect(all.map((m) => [m.Destination, m.Type, m.Name, m.RW, m.Anonymous])).toEqual([
    ["/a", "volume", "old", false, undefined],
    ["/b", "volume", "new", true, undefined],
    ["/c", "volume", "", true, true],
  ]);
});

test("two mounts at one place are refused", () => {
  expect(() => mounts({ Binds: ["/a:/x", "v:/x/"] })).toThrow("Duplicate mount point: /x");
  expect(() => mounts({ Binds: ["/a:/x"], Tmpfs: { "/x": "" } })).toThrow("Duplicate mount point: /x");
});

test("--mount", () => {
  expect(mounts({ Mounts: [{ Type: "tmpfs", Target: "/t", TmpfsOptions: { SizeBytes: 100, Mode: 0o700 } }] })[0]).toMatchObject({
    Type: "tmpfs",
    Options: "size=100,mode=700",
  });
  expect(mounts({ Mounts: [{ Type: "bind", Source: "/s", Target: "/t", ReadOnly: true }] })[0]).toMatchObject({ RW: false, mustExist: true });
  expect(() => mounts({ Mounts: [{ Type: "bind", Source: "s", Target: "/t" }] })).toThrow("mount path must be absolute");
  expect(() => mounts({ Mounts: [{ Type: "volume", Source: "v", Target: "/t", VolumeOptions: { Subpath: "../x" } }] })).toThrow("subpath");
});
