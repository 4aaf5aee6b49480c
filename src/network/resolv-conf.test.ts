import { expect, test } from "vitest";
import { buildResolvConf, parseResolvConf, reachableResolvers } from "./resolv-conf.ts";

const none = { dns: null, search: null, options: null };
const host =
  "# made by something\nnameserver 192.0.2.53 # first\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver 2001:db8::53\nsearch a.example b.example\noptions ndots:2 edns0\n";

test("the host's file is read as the resolver reads it", () => {
  expect(parseResolvConf(host)).toEqual({
    nameservers: ["192.0.2.53", "127.0.0.53", "fe80::1%eth0", "2001:db8::53"],
    search: ["a.example", "b.example"],
    options: ["ndots:2", "edns0"],
  });
  expect(parseResolvConf("search a\n;nameserver 1.1.1.1\ndomain b\n")).toEqual({ nameservers: [], search: ["b"], options: [] });
});

test("resolvers that mean something on the host only are left out", () => {
  expect(buildResolvConf(host, none, "direct")).toBe("nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch a.example b.example\noptions ndots:2 edns0\n");
});

test("without a usable resolver there is none: never a public one that nobody asked for", () => {
  expect(reachableResolvers("nameserver 127.0.0.1\nnameserver ::1\n")).toEqual([]);
  expect(buildResolvConf("nameserver 127.0.0.1\nnameserver ::1\n", none, "direct")).toBe("");
});

test("the embedded server stands for all others; names without a dot are asked for as they are", () => {
  const embedded = { embedded: "127.0.0.11" };
  expect(buildResolvConf("search a.example\nnameserver 192.0.2.1\noptions edns0\n", none, embedded)).toBe(
    "nameserver 127.0.0.11\nsearch a.example\noptions edns0 ndots:0\n",
  );
  expect(buildResolvConf(host, { dns: ["9.9.9.9"], search: ["x"], options: ["ndots:3"] }, embedded)).toBe("nameserver 127.0.0.11\nsearch x\noptions ndots:3\n");
});

test("what is given replaces the host's, each part by itself; an empty list gives nothing", () => {
  expect(buildResolvConf(host, { dns: ["9.9.9.9"], search: null, options: null }, "direct")).toBe(
    "nameserver 9.9.9.9\nsearch a.example b.example\noptions ndots:2 edns0\n",
  );
  expect(buildResolvConf(host, { dns: ["127.0.0.1"], search: ["."], options: ["ndots:1"] }, "direct")).toBe("nameserver 127.0.0.1\noptions ndots:1\n");
  expect(buildResolvConf(host, { dns: [], search: [], options: [] }, "direct")).toBe(buildResolvConf(host, none, "direct"));
});

test("a container in the host's namespace has the host's file as it is, unless something is given", () => {
  expect(buildResolvConf(host, none, "host")).toBe(host);
  expect(buildResolvConf(host, { ...none, search: ["c.example"] }, "host")).toBe(
    "nameserver 192.0.2.53\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver 2001:db8::53\nsearch c.example\noptions ndots:2 edns0\n",
  );
});
