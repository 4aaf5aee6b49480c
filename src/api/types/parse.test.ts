import { describe, expect, test } from "vitest";
import { parseCreateBody } from "./container-create.ts";
import { parseDetachKeys } from "./detach-keys.ts";
import { filterFlag, filterKeys, parseFilters } from "./filters.ts";
import { hostConfig, resourceUpdate, restartPolicy } from "./host-config.ts";
import { decodeLines, encodeJson } from "./ndjson.ts";
import { decimalSize, progressBar } from "./progress.ts";
import { encodeQuery, Query } from "./query.ts";
import { parseExecCreate, parseNetworkCreate, parseVolumeCreate } from "./requests.ts";
import { humanDuration } from "./text.ts";
import { splitVersion } from "./version.ts";

const create = (body: unknown, minor = 51) => parseCreateBody(body, minor);

describe("create body", () => {
  test("an empty body gets docker's defaults", () => {
    const { config, hostConfig: host, networkingConfig, warnings } = create({ Image: "busybox" });
    expect(config).toMatchObject({ Image: "busybox", Cmd: null, Entrypoint: null, Env: null, Labels: {}, Volumes: null, Tty: false });
    expect(config).not.toHaveProperty("StopTimeout");
    expect(host).toMatchObject({
      NetworkMode: "bridge",
      IpcMode: "private",
      ShmSize: 67108864,
      LogConfig: { Type: "json-file", Config: {} },
      RestartPolicy: { Name: "no", MaximumRetryCount: 0 },
      Memory: 0,
      PidsLimit: null,
      MaskedPaths: null,
      ConsoleSize: [0, 0],
      Runtime: "wherry",
    });
    expect(networkingConfig).toEqual({ EndpointsConfig: {} });
    expect(warnings).toEqual([]);
  });

  test("null, missing and [] are kept apart where docker keeps them apart", () => {
    const { config, hostConfig: host } = create({ Image: "x", Cmd: [], Entrypoint: null, HostConfig: { MaskedPaths: [], ReadonlyPaths: null, Init: null } });
    expect(config.Cmd).toEqual([]);
    expect(config.Entrypoint).toBeNull();
    expect(host.MaskedPaths).toEqual([]);
    expect(host.ReadonlyPaths).toBeNull();
    expect(host.Init).toBeNull();
    expect("Init" in create({ Image: "x" }).hostConfig).toBe(false);
  });

  test("a lone string is a one-word command, field names fold their case, unknown fields are ignored", () => {
    const { config } = create({ image: "x", Cmd: "sh", hostconfig: 1, NoSuchField: { deep: true } });
    expect(config.Cmd).toEqual(["sh"]);
    expect(config.Image).toBe("x");
  });

  test.each([
    [{ Image: 1 }, "invalid request: Image: expected a string, got 1"],
    [{ Image: "x", Env: ["a", 2] }, "invalid request: Env[1]: expected a string, got 2"],
    [{ Image: "x", HostConfig: { Memory: "x" } }, 'invalid request: HostConfig.Memory: expected a number, got "x"'],
    [{ Image: "x", HostConfig: { Memory: 1.5 } }, "invalid request: HostConfig.Memory: expected a number, got 1.5"],
    [{ Image: "x", HostConfig: [] }, "invalid request: HostConfig: expected an object, got []"],
    [
      { Image: "x", HostConfig: { PortBindings: { "80/tcp": [{ HostPort: 80 }] } } },
      "invalid request: HostConfig.PortBindings.80/tcp[0].HostPort: expected a string, got 80",
    ],
    [{ Image: "x", HostConfig: { Ulimits: [{ Name: "nofile", Soft: true }] } }, "invalid request: HostConfig.Ulimits[0].Soft: expected a number, got true"],
    [{ Image: "x\0y" }, 'invalid request: Image: expected a string without NUL bytes, got "x\\u0000y"'],
    [[], "invalid request: body: expected an object, got []"],
    [null, "config cannot be empty in order to create a container"],
    [{ Image: "x", HostConfig: { Runtime: "kata" } }, "unknown or invalid runtime name: kata"],
    [{ Image: "x", HostConfig: { Mounts: [{ Type: "nfs", Target: "/a" }] } }, 'invalid mount config for type "nfs": mount type unknown'],
    [
      { Image: "x", HostConfig: { Mounts: [{ Type: "bind", Target: "/a", TmpfsOptions: {} }] } },
      'invalid mount config for type "bind": field TmpfsOptions must not be specified',
    ],
    [{ Image: "x", ExposedPorts: { "70000/tcp": {} } }, 'invalid request: ExposedPorts: invalid port specification: "70000/tcp"'],
  ])("%j is refused", (body, message) => {
    expect(() => create(body)).toThrow(expect.objectContaining({ code: "invalid", message }));
  });

  test("keys of free maps are data, even __proto__", () => {
    const body = JSON.parse('{"Image":"x","Labels":{"__proto__":"a","b":"c"}}') as unknown;
    expect(Object.entries(create(body).config.Labels)).toEqual([
      ["__proto__", "a"],
      ["b", "c"],
    ]);
  });

  test("older versions do not know newer fields", () => {
    const body = {
      Image: "x",
      Healthcheck: { StartInterval: 5 },
      HostConfig: { ConsoleSize: [10, 20], Annotations: { a: "b" }, Mounts: [{ Type: "bind", Source: "/a", Target: "/b", ReadOnly: true }] },
    };
    const old = create(body, 41);
    expect(old.hostConfig.ConsoleSize).toEqual([0, 0]);
    expect(old.hostConfig.Annotations).toBeUndefined();
    expect(old.config.Healthcheck).toEqual({});
    expect(old.hostConfig.Mounts?.[0]?.BindOptions).toEqual({ ReadOnlyNonRecursive: true });
    const now = create(body, 51);
    expect(now.hostConfig.ConsoleSize).toEqual([10, 20]);
    expect(now.hostConfig.Mounts?.[0]?.BindOptions).toBeUndefined();
    const subpath = { Image: "x", HostConfig: { Mounts: [{ Type: "volume", Source: "v", Target: "/v", VolumeOptions: { Subpath: "a" } }] } };
    expect(() => create(subpath, 44)).toThrow("VolumeOptions.Subpath needs API v1.45 or newer");
    expect(create(subpath, 45).hostConfig.Mounts?.[0]?.VolumeOptions?.Subpath).toBe("a");
  });

  test("a container-wide MAC address moves to its network", () => {
    const made = create({ Image: "x", MacAddress: "02:42:ac:11:00:02", HostConfig: { NetworkMode: "front" } });
    expect(made.networkingConfig.EndpointsConfig.front?.MacAddress).toBe("02:42:ac:11:00:02");
    expect(made.warnings[0]).toContain("deprecated");
    expect(() => create({ Image: "x", MacAddress: "zz" })).toThrow("invalid MAC address: zz");
  });

  test("the network called default is the bridge", () => {
    const made = create({ Image: "x", HostConfig: { NetworkMode: "default" }, NetworkingConfig: { EndpointsConfig: { default: { Aliases: ["a"] } } } });
    expect(made.hostConfig.NetworkMode).toBe("bridge");
    expect(Object.keys(made.networkingConfig.EndpointsConfig)).toEqual(["bridge"]);
  });
});

test("ports get their protocol, limits of 0 or -1 processes are none", () => {
  const host = hostConfig({ PortBindings: { "80": [{ HostPort: "8080" }] }, PidsLimit: -1 }, "HostConfig");
  expect(host.PortBindings).toEqual({ "80/tcp": [{ HostIp: "", HostPort: "8080" }] });
  expect(host.PidsLimit).toBeNull();
  expect(hostConfig({ PidsLimit: 20 }, "").PidsLimit).toBe(20);
});

test("restart policies, with docker's complaints", () => {
  expect(restartPolicy({ Name: "on-failure", MaximumRetryCount: 3 }, "")).toEqual({ Name: "on-failure", MaximumRetryCount: 3 });
  expect(() => restartPolicy({ Name: "sometimes" }, "")).toThrow("unknown policy 'sometimes'");
  expect(() => restartPolicy({ Name: "always", MaximumRetryCount: 3 }, "")).toThrow("maximum retry count can only be used with 'on-failure'");
  expect(() => restartPolicy({ Name: "on-failure", MaximumRetryCount: -1 }, "")).toThrow("cannot be negative");
});

test("an update carries what was given and nothing else", () => {
  const update = resourceUpdate({
    Memory: 1000,
    CpuShares: 0,
    CpusetCpus: "",
    Devices: [],
    PidsLimit: 0,
    MemorySwap: -1,
    RestartPolicy: { Name: "", MaximumRetryCount: 0 },
  });
  expect(update).toEqual({ resources: { Memory: 1000, MemorySwap: -1, PidsLimit: -1 }, restartPolicy: undefined });
  // Whom it may call: an empty list says nobody.
  expect(resourceUpdate({ Ulimits: [], WherryEgress: [] }).resources).toEqual({ WherryEgress: [] });
  expect(resourceUpdate({ RestartPolicy: { Name: "always" } }).restartPolicy).toEqual({ Name: "always", MaximumRetryCount: 0 });
  expect(resourceUpdate({ PidsLimit: null })).toEqual({ resources: {}, restartPolicy: undefined });
});

test("the smaller bodies", () => {
  expect(() => parseExecCreate({ Cmd: [] })).toThrow("no exec command specified");
  expect(parseExecCreate({ Cmd: ["ls"], Tty: true })).toMatchObject({ Cmd: ["ls"], Tty: true, Env: null, User: "" });
  expect(() => parseNetworkCreate({})).toThrow("network name required");
  expect(parseNetworkCreate({ Name: "n", IPAM: { Config: [{ Subnet: "10.0.0.0/8" }] } })).toMatchObject({
    Driver: "bridge",
    IPAM: { Driver: "default", Config: [{ Subnet: "10.0.0.0/8" }] },
  });
  expect(parseVolumeCreate(undefined, "")).toEqual({ Name: "", Driver: "local", DriverOpts: {}, Labels: {} });
});

describe("filters", () => {
  test("both forms mean the same", () => {
    const known = filterKeys.containers;
    expect(parseFilters('{"label":["a=b","c"]}', known)).toEqual({ label: ["a=b", "c"] });
    expect(parseFilters('{"label":{"a=b":true,"c":true}}', known)).toEqual({ label: ["a=b", "c"] });
    expect(parseFilters("", known)).toEqual({});
    expect(parseFilters("null", known)).toEqual({});
  });

  test.each(["[]", "{", '"x"', '{"label":1}', '{"label":[1]}'])("%s is refused", (text) => {
    expect(() => parseFilters(text, filterKeys.containers)).toThrow(/^invalid filter/);
  });

  test("unknown keys are refused, truth values read", () => {
    expect(() => parseFilters('{"colour":["red"]}', filterKeys.containers)).toThrow("invalid filter 'colour'");
    expect(filterFlag({ dangling: ["true"] }, "dangling")).toBe(true);
    expect(filterFlag({ dangling: ["0"] }, "dangling")).toBe(false);
    expect(filterFlag({}, "dangling")).toBeUndefined();
    expect(() => filterFlag({ dangling: ["maybe"] }, "dangling")).toThrow("invalid filter 'dangling=[maybe]'");
  });
});

describe("query", () => {
  test("flags as docker reads them, numbers, moments, repeats", () => {
    const query = Query.parse("a=1&b=0&c=&d=no&e=yes&n=42&t=1700000000.5&x=p&x=q&bad=1z");
    expect(["a", "b", "c", "d", "e", "missing"].map((name) => query.flag(name))).toEqual([true, false, false, false, true, false]);
    expect(query.flag("missing", true)).toBe(true);
    expect(query.int("n")).toBe(42);
    expect(query.int("missing")).toBeUndefined();
    expect(query.timeNs("t")).toBe(1_700_000_000_500_000_000n);
    expect(query.all("x")).toEqual(["p", "q"]);
    expect(() => query.int("bad")).toThrow('invalid value for query parameter bad: "1z"');
    expect(() => query.timeNs("x")).toThrow("not a unix time");
  });

  test("encoding keeps lists and drops what is not set", () => {
    expect(encodeQuery({ a: true, b: undefined, c: ["x y", "z"], d: 3 })).toBe("?a=true&c=x+y&c=z&d=3");
    expect(encodeQuery(undefined)).toBe("");
    expect(Query.of({ a: true, c: ["x", "y"] }).all("c")).toEqual(["x", "y"]);
  });
});

test("detach keys", () => {
  expect([...parseDetachKeys("")]).toEqual([16, 17]);
  expect([...parseDetachKeys("ctrl-a,x,ctrl-@,ctrl-[")]).toEqual([1, 120, 0, 27]);
  expect(() => parseDetachKeys("ctrl-1")).toThrow("Unknown character: 'ctrl-1'");
});

test("versions", () => {
  expect(splitVersion("/v1.44/containers/json")).toEqual({ major: 1, minor: 44, path: "/containers/json" });
  expect(splitVersion("/containers/json")).toEqual({ major: 1, minor: 51, path: "/containers/json" });
  expect(splitVersion("/volumes/v1.2")).toMatchObject({ path: "/volumes/v1.2" });
});

test("64-bit numbers keep their digits, and a stream of lines survives any chunking", async () => {
  expect(encodeJson({ a: 1_700_000_000_123_456_789n, b: "int:5", c: [9_007_199_254_740_993n] })).toBe(
    '{"a":1700000000123456789,"b":"int:5","c":[9007199254740993]}',
  );
  const bytes = Buffer.from('{"ä":1}\r\n\n{"b":2}');
  const chunks = (async function* () {
    for (const byte of bytes) yield Uint8Array.of(byte);
  })();
  const seen: unknown[] = [];
  for await (const value of decodeLines(chunks)) seen.push(value);
  expect(seen).toEqual([{ ä: 1 }, { b: 2 }]);
});

test("phrases", () => {
  const s = 1000;
  const day = 86_400 * s;
  expect([0, s, 59 * s, 60 * s, 119 * s, 120 * s, 3600 * s, 7200 * s, 47 * 3600 * s, 3 * day, 15 * day, 70 * day, 800 * day].map(humanDuration)).toEqual([
    "Less than a second",
    "1 second",
    "59 seconds",
    "About a minute",
    "About a minute",
    "2 minutes",
    "About an hour",
    "2 hours",
    "47 hours",
    "3 days",
    "2 weeks",
    "2 months",
    "2 years",
  ]);
  expect(decimalSize(1_234_567)).toBe("1.235MB");
  expect(decimalSize(999)).toBe("999B");
  expect(progressBar(50, 100)).toBe(`[${"=".repeat(25)}>${" ".repeat(24)}]     50B/100B`);
  expect(progressBar(100, 100)).toBe(`[${"=".repeat(50)}>]    100B/100B`);
});
