/** Values that have a language of their own. What docker's CLI makes of whole command lines is compared in test/integration/cli-bodies. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { containerFlags } from "../container-flags.ts";
import { FlagSet, many, one, parseFlags } from "../flags.ts";
import { parseBytes, parseSwapBytes } from "./bytes.ts";
import { splitFields } from "./csv.ts";
import { parseDuration, parseMoment } from "./duration.ts";
import { readEnv, readLabels } from "./env.ts";
import { parseDevice, parseHealth, parseRestart, parseVolumes, readSecurityOptions } from "./host-options.ts";
import { parseMount, resolveMount } from "./mount.ts";
import { parseNetwork, parseNetworks } from "./network.ts";
import { parsePorts } from "./ports.ts";
import { familiarName, splitTag } from "./reference.ts";
import { parseBpsDevice, parseClassId, parseCpus, parseNetworkPriority, parseUlimit, parseWeightDevice } from "./resources.ts";
import { dnsSearch, extraHost, label, toMap } from "./validate.ts";

describe("sizes", () => {
  it.each([
    ["0", 0],
    ["512", 512],
    ["64m", 67108864],
    ["64MB", 67108864],
    ["64MiB", 67108864],
    ["1.5g", 1610612736],
    ["10b", 10],
    ["1 kb", 1024],
  ])("%s is %d bytes", (text, bytes) => expect(parseBytes(text)).toBe(bytes));

  it.each(["", "-1", "x", "5q", "5kbx", "5bb", "1.5.5", "1 2", ".", "99999999p"])("%j is refused", (text) => expect(() => parseBytes(text)).toThrow());

  it("swap may be unlimited", () => expect(parseSwapBytes("-1")).toBe(-1));

  it("whole numbers come back", () => {
    fc.assert(fc.property(fc.nat(), (n) => parseBytes(String(n)) === n));
    fc.assert(fc.property(fc.nat({ max: 1_000_000 }), (n) => parseBytes(`${n}k`) === n * 1024));
  });
});

describe("what packets are marked with", () => {
  it.each([
    ["0x10001", 0x1_0001],
    ["65537", 0x1_0001],
    ["1:1", 0x1_0001],
    ["10:a2", 0x10_00a2],
    ["ffff:FFFF", 0xffff_ffff],
  ])("class %s is %d", (text, id) => expect(parseClassId(text)).toBe(id));

  it.each(["", "0", "1:", ":1", "0x100000000", "10000:1", "-1", "x"])("class %j is none", (text) =>
    expect(() => parseClassId(text)).toThrow(`invalid network class "${text}"`),
  );

  it("a priority is an interface's", () => {
    expect(parseNetworkPriority("eth0:5")).toEqual(["eth0", 5]);
    for (const text of ["eth0", "eth0:", ":5", "eth0:4294967296", "a/b:1", "an-interface-name-too-long:1"])
      expect(() => parseNetworkPriority(text)).toThrow("invalid network priority");
  });
});

describe("durations", () => {
  it.each([
    ["0", 0],
    ["1s", 1e9],
    ["1h30m", 5400e9],
    ["1.5s", 1.5e9],
    [".5s", 0.5e9],
    ["300ms", 3e8],
    ["10us", 1e4],
    ["-2m", -120e9],
  ])("%s is %d ns", (text, ns) => expect(parseDuration(text)).toBe(ns));

  it.each([
    ["5", "missing unit"],
    ["", "invalid duration"],
    ["s", "invalid duration"],
    ["1.s.", "invalid duration"],
    ["5parsecs", "unknown unit"],
  ])("%j: %s", (text, why) => expect(() => parseDuration(text)).toThrow(why));

  it("moments: seconds, relative, RFC 3339 with any precision", () => {
    expect(parseMoment("1735787045.5", 0)).toBe("1735787045.5");
    expect(parseMoment("", 0)).toBe("");
    expect(parseMoment("10m", 1_000_000_000)).toBe("999400.000000000");
    expect(parseMoment("2025-01-02T03:04:05Z", 0)).toBe("1735787045.000000000");
    expect(parseMoment("2025-01-02T03:04:05.123456789+01:00", 0)).toBe("1735783445.123456789");
    expect(parseMoment("2025-01-02T03:04Z", 0)).toBe("1735787040.000000000");
    expect(parseMoment("2025-01-02", 0)).toBe(`${new Date("2025-01-02T00:00:00").getTime() / 1000}.000000000`);
    for (const text of ["yesterday", "2025-13-45", "10 m"]) expect(() => parseMoment(text, 0)).toThrow("failed to parse value as time or duration");
  });
});

describe("ports", () => {
  it("every form", () => {
    expect(parsePorts(["8080:80", "127.0.0.1::53/udp", "[::1]:1:2/sctp"], ["9"])).toEqual({
      exposed: { "80/tcp": {}, "53/udp": {}, "2/sctp": {}, "9/tcp": {} },
      bindings: {
        "80/tcp": [{ HostIp: "", HostPort: "8080" }],
        "53/udp": [{ HostIp: "127.0.0.1", HostPort: "" }],
        "2/sctp": [{ HostIp: "::1", HostPort: "1" }],
      },
    });
  });

  it("one container port may have several host ports", () => {
    expect(parsePorts(["1:80", "2:80"], []).bindings["80/tcp"]).toHaveLength(2);
  });

  it("ranges of equal length go port by port; one port takes any of a range", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 60000 }), fc.integer({ min: 1, max: 60000 }), fc.integer({ min: 0, max: 20 }), (host, container, more) => {
        const { bindings } = parsePorts([`${host}-${host + more}:${container}-${container + more}`], []);
        expect(Object.keys(bindings)).toHaveLength(more + 1);
        expect(bindings[`${container + more}/tcp`]).toEqual([{ HostIp: "", HostPort: String(host + more) }]);
      }),
    );
    expect(parsePorts(["7000-7010:80"], []).bindings["80/tcp"]).toEqual([{ HostIp: "", HostPort: "7000-7010" }]);
  });

  it.each(["0x50", "70000", "1-3:4-5", "a:1", "1:2:3:4:5", "80/foo", ":", "3-1", "published=1,oops"])("%s is refused", (spec) => {
    expect(() => parsePorts([spec], [])).toThrow();
  });
});

describe("comma-separated fields", () => {
  it("any fields survive quoting", () => {
    const quoted = (field: string) => `"${field.replaceAll('"', '""')}"`;
    fc.assert(
      fc.property(fc.array(fc.string(), { minLength: 1 }), (fields) => {
        expect(splitFields(fields.map(quoted).join(","))).toEqual(fields);
      }),
    );
  });
  it.each(['"a', 'a"b', '"a"b'])("%s is refused", (line) => expect(() => splitFields(line)).toThrow("parse error"));
});

describe("mounts", () => {
  it("relative sources of binds are the caller's", () => {
    expect(resolveMount(parseMount("type=bind,src=./x,dst=/y"), "/home/me").Source).toBe("/home/me/x");
    expect(resolveMount(parseMount("type=bind,src=..,dst=/y"), "/home/me").Source).toBe("/home");
    expect(resolveMount(parseMount("src=name,dst=/y"), "/home/me").Source).toBe("name");
  });
  it("an option of another type is refused", () => expect(() => parseMount("type=tmpfs,dst=/y,volume-nocopy")).toThrow("cannot mix"));
  it("keys are found whatever Object has", () => expect(() => parseMount("dst=/x,constructor=y")).toThrow("unexpected key 'constructor'"));
});

it("volumes: paths, names, relative paths, duplicates", () => {
  expect(parseVolumes(["/a", "/a:/b:ro", "n:/c", "./d:/d", "../e:/e", "/a:/b:ro"], "/home/me")).toEqual({
    binds: ["/a:/b:ro", "n:/c", "/home/me/d:/d", "/home/e:/e"],
    volumes: { "/a": {} },
  });
});

it("devices", () => {
  expect(parseDevice("/dev/a")).toEqual({ PathOnHost: "/dev/a", PathInContainer: "/dev/a", CgroupPermissions: "rwm" });
  expect(parseDevice("/dev/a:r")).toEqual({ PathOnHost: "/dev/a", PathInContainer: "/dev/a", CgroupPermissions: "r" });
  expect(parseDevice("/dev/a:/dev/b:rw").CgroupPermissions).toBe("rw");
  for (const bad of ["/a:/b:c:d", "/dev/a:/dev/b:rr", "", "/dev/a:b"]) expect(() => parseDevice(bad)).toThrow();
});

it("restart policies", () => {
  expect(parseRestart("on-failure:3")).toEqual({ Name: "on-failure", MaximumRetryCount: 3 });
  expect(parseRestart("")).toEqual({ Name: "", MaximumRetryCount: 0 });
  expect(() => parseRestart(":3")).toThrow("no policy provided before colon");
  expect(() => parseRestart("on-failure:x")).toThrow("must be an integer");
});

it("resources", () => {
  expect(["0.5", "2", ".25", "1/2", "0.000000001"].map(parseCpus)).toEqual([5e8, 2e9, 2.5e8, 5e8, 1]);
  for (const bad of ["", ".", "x", "1/3", "0.0000000001", "1/0"]) expect(() => parseCpus(bad)).toThrow();
  expect(parseUlimit("nofile=5:-1")).toEqual({ Name: "nofile", Soft: 5, Hard: -1 });
  for (const bad of ["nofile", "x=1", "nofile=2:1", "nofile=-1:1", "nofile=1:2:3", "nofile=1=2"]) expect(() => parseUlimit(bad)).toThrow();
  expect(parseBpsDevice("/dev/sda:1mb")).toEqual({ Path: "/dev/sda", Rate: 1048576 });
  for (const bad of ["x:1", "/dev/sda", "/dev/sda:", "/dev/sda:-1"]) expect(() => parseBpsDevice(bad)).toThrow();
  expect(parseWeightDevice("/dev/sda:0").Weight).toBe(0);
  for (const bad of ["/dev/sda:9", "/dev/sda:1001", "/dev/sda:1.5"]) expect(() => parseWeightDevice(bad)).toThrow("invalid weight");
});

describe("environment and labels", () => {
  const file = (text: string | Buffer): [string, () => void] => {
    const dir = mkdtempSync(join(tmpdir(), "wherry-env-"));
    writeFileSync(join(dir, "f"), text);
    return [dir, () => rmSync(dir, { recursive: true })];
  };

  it("files first, then flags; bare names take the caller's value", async () => {
    const [cwd, remove] = file("# no\n  A=file \r\nHOST\nMISSING\n\nC==x\n");
    expect(await readEnv(["f"], ["A=flag", "HOST", "UNSET"], cwd, { HOST: "h" })).toEqual(["A=file ", "HOST=h", "C==x", "A=flag", "HOST=h", "UNSET"]);
    expect(await readLabels(["f"], ["l"], cwd)).toEqual(["A=file ", "HOST", "MISSING", "C==x", "l"]);
    remove();
  });

  it("says what is wrong with a file", async () => {
    const [cwd, remove] = file("=x\n");
    await expect(readEnv(["f"], [], cwd, {})).rejects.toThrow("no variable name on line '=x'");
    await expect(readEnv(["g"], [], cwd, {})).rejects.toThrow("open g: no such file or directory");
    await expect(readEnv(["."], [], cwd, {})).rejects.toThrow("is a directory");
    writeFileSync(join(cwd, "f"), "A B=c\n");
    await expect(readEnv(["f"], [], cwd, {})).rejects.toThrow("variable 'A B' contains whitespaces");
    writeFileSync(join(cwd, "f"), Buffer.from([0x41, 0x3d, 0xff]));
    await expect(readEnv(["f"], [], cwd, {})).rejects.toThrow("invalid utf8");
    remove();
  });

  it("a seccomp profile is read and made compact; what is no JSON is refused", async () => {
    const [cwd, remove] = file('{ "a":\n 1 }');
    expect(await readSecurityOptions(["seccomp=f", "no-new-privileges", "seccomp:unconfined"], cwd)).toEqual({
      options: ['seccomp={"a":1}', "no-new-privileges", "seccomp:unconfined"],
      unmasked: false,
    });
    writeFileSync(join(cwd, "f"), "nope");
    await expect(readSecurityOptions(["seccomp=f"], cwd)).rejects.toThrow("compacting json for seccomp profile (f) failed");
    expect(await readSecurityOptions(["systempaths=unconfined"], cwd)).toEqual({ options: [], unmasked: true });
    remove();
  });
});

it("certificates of a health check come from a file, and are for https", async () => {
  const cwd = mkdtempSync(join(tmpdir(), "wherry-ca-"));
  try {
    writeFileSync(join(cwd, "ca.pem"), "PEM");
    const health = (...argv: string[]) => parseHealth(parseFlags(new FlagSet(containerFlags), argv).values, cwd);
    expect(await health("--health-http", "https://localhost/", "--health-cacert", "ca.pem")).toEqual({ Test: ["HTTP", "https://localhost/", "PEM"] });
    expect(await health("--health-http", ":80/")).toEqual({ Test: ["HTTP", ":80/"] });
    await expect(health("--health-http", ":80/", "--health-cacert", "ca.pem")).rejects.toThrow("--health-cacert is for --health-http https://");
    await expect(health("--health-http", "https://localhost/", "--health-cacert", "no.pem")).rejects.toThrow(/^open .*no\.pem: no such file or directory$/);
  } finally {
    rmSync(cwd, { recursive: true });
  }
});

describe("networks", () => {
  const set = new FlagSet([
    many("network", "", { parse: parseNetwork }),
    many("network-alias", ""),
    many("link", ""),
    many("link-local-ip", ""),
    one("ip", ""),
    one("ip6", ""),
    one("mac-address", ""),
  ]);
  const parse = (...argv: string[]) => parseNetworks(parseFlags(set, argv).values);

  it("a plain name needs no endpoint", () => {
    expect(parse()).toEqual({ mode: "default", endpoints: {} });
    expect(parse("--network", "none")).toEqual({ mode: "none", endpoints: {} });
  });
  it("several networks have one each", () => expect(Object.keys(parse("--network", "a", "--network", "name=b,ip=1.2.3.4").endpoints)).toEqual(["a", "b"]));
  it.each([
    [["--network", "a", "--network", "host"], "user-defined and non-user-defined"],
    [["--network", "a", "--network", "a"], "specified multiple times"],
    [["--network", "name=a,ip=1.2.3.4", "--ip", "1.2.3.5"], "cannot specify both --ip"],
    [["--network", "host", "--network-alias", "x"], "only supported for user-defined"],
  ])("%j: %s", (argv, why) => expect(() => parse(...argv)).toThrow(why));
  it.each(["alias=x", "name=a,mac-address=zz", "name=a,gw-priority=x", "name=a,nope=1", "name=a,driver-opt=x"])("%s is refused", (text) =>
    expect(() => parseNetwork(text)).toThrow(),
  );
});

it("single values", () => {
  expect(extraHost("h=[::1]")).toBe("h:::1");
  expect(extraHost("h:host-gateway")).toBe("h:host-gateway");
  for (const bad of ["h", ":1.2.3.4", "h:1.2.3", "a:b=1.2.3.4"]) expect(() => extraHost(bad)).toThrow("add-host");
  expect(dnsSearch(".")).toBe(".");
  for (const bad of ["", "-a.example", "1.2"]) expect(() => dnsSearch(bad)).toThrow("is not a valid domain");
  expect(() => label("a b=c")).toThrow("whitespaces");
  expect(toMap(["a=b=c", "d", "a=e"])).toEqual({ a: "e", d: "" });
});

it("image names", () => {
  expect(familiarName("docker.io/library/busybox:1@sha256:x")).toBe("busybox:1");
  expect(familiarName("docker.io/me/x")).toBe("me/x");
  expect(splitTag("host:5000/a/b")).toEqual({ repository: "host:5000/a/b", tag: "" });
  expect(splitTag("host:5000/a/b:v1")).toEqual({ repository: "host:5000/a/b", tag: "v1" });
});
