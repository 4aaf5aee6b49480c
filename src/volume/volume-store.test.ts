import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { VolumeStore } from "./mod.ts";
import { withServerAddress } from "./server-address.ts";
import { openVolumeStore } from "./volume-store.ts";

let root: string;
let store: VolumeStore;
const logged: string[] = [];
const open = (removeTree?: (path: string) => Promise<void>) =>
  openVolumeStore({ root, log: (level, message) => logged.push(`${level} ${message}`), ...(removeTree === undefined ? {} : { removeTree }) });

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "volume-"));
  logged.length = 0;
  store = await open();
});
afterEach(() => rm(root, { recursive: true }));

const unused = { force: false, users: [] };

describe("volumes", () => {
  it("are directories that outlive the store's memory", async () => {
    const volume = await store.create({ name: "data", labels: { a: "b" } });
    expect(volume).toEqual({
      Name: "data",
      Driver: "local",
      Mountpoint: join(root, "volumes/data/_data"),
      CreatedAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
      Labels: { a: "b" },
      Scope: "local",
      Options: null,
    });
    expect((await stat(volume.Mountpoint)).mode & 0o777).toBe(0o755);
    expect(await store.isEmpty("data")).toBe(true);
    await writeFile(join(volume.Mountpoint, "file"), "x");
    expect(await store.isEmpty("data")).toBe(false);
    const again = await open();
    expect(again.list()).toEqual([volume]);
    expect(again.get("data")).toEqual(volume);
  });

  it("that exist are given, whatever is asked for", async () => {
    const [a, b] = await Promise.all([store.create({ name: "data", labels: { a: "1" } }), store.create({ name: "data", labels: { a: "2" } })]);
    expect(b).toBe(a);
    expect(await store.create({ name: "data", options: { type: "nfs" } })).toBe(a);
  });

  it("without a name get one, and a label", async () => {
    const volume = await store.create({});
    expect(volume.Name).toMatch(/^[0-9a-f]{64}$/);
    expect(volume.Labels).toEqual({ "com.docker.volume.anonymous": "" });
    expect((await store.create({ anonymous: true, labels: { x: "y" } })).Labels).toEqual({ "com.docker.volume.anonymous": "", x: "y" });
    expect(store.list().length).toBe(2);
  });

  it("go, from view at once", async () => {
    await store.create({ name: "data" });
    await expect(store.remove("data", { force: true, users: ["c0ffee"] })).rejects.toMatchObject({
      code: "conflict",
      message: "remove data: volume is in use - [c0ffee]",
    });
    await store.remove("data", unused);
    expect(store.find("data")).toBeUndefined();
    await expect(store.remove("data", unused)).rejects.toMatchObject({ code: "not-found", message: "get data: no such volume" });
    await store.remove("data", { ...unused, force: true });
    expect(() => store.get("data")).toThrow("get data: no such volume");
    await store.sweep();
    expect(await readdir(join(root, "volumes"))).toEqual([".trash"]);
    expect(await readdir(join(root, "volumes/.trash"))).toEqual([]);
  });

  it("can be had again while the old one is being deleted", async () => {
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    store = await open(async (path) => {
      await held;
      await rm(path, { recursive: true });
    });
    const { Mountpoint } = await store.create({ name: "data" });
    await writeFile(join(Mountpoint, "old"), "x");
    await store.remove("data", unused);
    await store.create({ name: "data" });
    expect(await store.isEmpty("data")).toBe(true);
    release();
    await store.sweep();
    expect(await readdir(join(root, "volumes/.trash"))).toEqual([]);
    expect(store.list().length).toBe(1);
  });

  it("that cannot be deleted are told of and tried again", async () => {
    store = await open(async () => {
      throw new Error("busy");
    });
    await store.create({ name: "data" });
    await store.remove("data", unused);
    await store.sweep();
    expect(logged.join()).toContain("busy");
    await (await open()).sweep();
    expect(await readdir(join(root, "volumes/.trash"))).toEqual([]);
  });

  it("half made by a crash are swept", async () => {
    await mkdir(join(root, "volumes/half/_data"), { recursive: true });
    store = await open();
    expect(store.list()).toEqual([]);
    await store.sweep();
    expect(await readdir(join(root, "volumes"))).toEqual([".trash"]);
    await mkdir(join(root, "volumes/half/_data"), { recursive: true });
    expect((await store.create({ name: "half" })).Name).toBe("half");
  });

  it.each([
    ["a", "create a: volume name is too short, names should be at least two alphanumeric characters"],
    [
      "../x",
      'create ../x: "../x" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path',
    ],
    [".trash", "includes invalid characters"],
    ["a/b", "includes invalid characters"],
    ["a b", "includes invalid characters"],
    ["aa\n", "includes invalid characters"],
    ["a".repeat(256), "too long"],
  ])("are not called %s", async (name, message) => {
    await expect(store.create({ name })).rejects.toMatchObject({ code: "invalid", message: expect.stringContaining(message) });
    expect(await readdir(join(root, "volumes"))).toEqual([".trash"]);
  });

  it("of other drivers are not known", async () => {
    await expect(store.create({ name: "data", driver: "nfs" })).rejects.toMatchObject({
      code: "not-found",
      message: 'create data: error looking up volume plugin nfs: plugin "nfs" not found',
    });
  });
});

describe("options of the local driver", () => {
  it("bind a directory of the host's", async () => {
    await mkdir(join(root, "shared"));
    await writeFile(join(root, "shared/file"), "x");
    const options = { type: "none", o: "bind", device: join(root, "shared") };
    const volume = await store.create({ name: "shared", options });
    expect(volume).toMatchObject({ Mountpoint: join(root, "shared"), Options: options });
    expect(await store.isEmpty("shared")).toBe(false);
    expect((await open()).get("shared")).toEqual(volume);
    await store.remove("shared", unused);
    await store.sweep();
    expect(await readdir(join(root, "shared"))).toEqual(["file"]);
    await store.create({ name: "gone", options: { ...options, device: join(root, "none") } });
    await expect(store.isEmpty("gone")).rejects.toMatchObject({ code: "not-found", message: expect.stringContaining(join(root, "none")) });
  });

  it("what a filesystem is to be mounted from", async () => {
    const options = { type: "nfs", device: ":/x", o: "addr=1.2.3.4,ro" };
    await store.create({ name: "nfs", options });
    expect(store.backing("nfs")).toEqual({ kind: "mount", fstype: "nfs", device: ":/x", options: ["addr=1.2.3.4", "ro"] });
  });

  it("names of servers are resolved when they are needed: addr= of nfs, the device of cifs", async () => {
    const resolve = async (name: string) => {
      if (name !== "server") throw new Error(`getaddrinfo ENOTFOUND ${name}`);
      return "192.0.2.7";
    };
    const at = async (fstype: string, device: string, ...options: string[]) => {
      const { fstype: same, ...source } = await withServerAddress("mounting x", { fstype, device, options }, resolve);
      expect(same).toBe(fstype);
      return source;
    };
    expect(await at("nfs", ":/x", "addr=server", "ro", "nfsvers=4")).toEqual({ device: ":/x", options: ["addr=192.0.2.7", "ro", "nfsvers=4"] });
    expect(await at("nfs4", ":/x", "addr=fd00::7")).toEqual({ device: ":/x", options: ["addr=fd00::7"] });
    expect(await at("cifs", "//server/share/a", "username=u")).toEqual({ device: "//192.0.2.7/share/a", options: ["username=u", "ip=192.0.2.7"] });
    expect(await at("cifs", "//server/share", "addr=10.0.0.1")).toEqual({ device: "//192.0.2.7/share", options: ["addr=10.0.0.1"] });
    expect(await at("ext4", "/dev/x", "addr=server")).toEqual({ device: "/dev/x", options: ["addr=server"] });
    await expect(at("nfs", ":/x", "addr=nobody")).rejects.toMatchObject({
      code: "unavailable",
      message: 'mounting x: the server\'s name "nobody" cannot be resolved: getaddrinfo ENOTFOUND nobody',
    });
  });

  it("a name that changes, and a volume that is there only when it is filled", async () => {
    await store.create({ name: "one", labels: { a: "b" }, fill: (directory) => writeFile(join(directory, "f"), "x") });
    await store.rename("one", "two");
    expect(store.find("one")).toBeUndefined();
    expect((await open()).get("two")).toEqual(store.get("two"));
    expect(await store.isEmpty("two")).toBe(false);
    await expect(store.create({ name: "three", fill: () => Promise.reject(new Error("no")) })).rejects.toThrow("no");
    expect(store.find("three")).toBeUndefined();
    await expect(store.rename("two", "../x")).rejects.toMatchObject({ code: "invalid" });
  });

  it.each<[Record<string, string>, string, string]>([
    [{ type: "nfs", device: ":/x", o: "addr=a server" }, "invalid", 'needs its server: o=addr=192.0.2.1,… or its name (got "a server")'],
    [{ type: "nfs4", device: ":/x", o: "ro" }, "invalid", 'needs its server: o=addr=192.0.2.1,… or its name (got "")'],
    [{ device: "x" }, "invalid", 'missing required option: "type"'],
    [{ size: "10m" }, "unsupported", "project quotas"],
    [{ type: "none", o: "bind,ro", device: "/x" }, "unsupported", '"ro"'],
    [{ type: "none", o: "bind", device: "x" }, "invalid", "absolute path"],
    [{ type: "none", o: "bind" }, "invalid", 'missing required option: "device"'],
    [{ colour: "red" }, "invalid", 'create v1: invalid option: "colour"'],
  ])("%o is refused with the reason", async (options, code, message) => {
    await expect(store.create({ name: "v1", options })).rejects.toMatchObject({ code, message: expect.stringContaining(message) });
    expect(store.list()).toEqual([]);
  });
});
