import { expect, test } from "vitest";
import { buildResolvConf, parseResolvConf } from "./resolv-conf.ts";

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
  expect(buildResolvConf(host, none, true)).toBe("nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch a.example b.example\noptions ndots:2 edns0\n");
});

test("without a usable resolver, docker's fallback", () => {
  expect(buildResolvConf("nameserver 127.0.0.1\nnameserver ::1\n", none, true)).toBe("nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
  expect(buildResolvConf("", none, true)).toBe("nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
});

test("what is given replaces the host's, each part by itself; an empty list gives nothing", () => {
  expect(buildResolvConf(host, { dns: ["9.9.9.9"], search: null, options: null }, true)).toBe(
    "nameserver 9.9.9.9\nsearch a.example b.example\noptions ndots:2 edns0\n",
  );
  expect(buildResolvConf(host, { dns: ["127.0.0.1"], search: ["."], options: ["ndots:1"] }, true)).toBe("nameserver 127.0.0.1\noptions ndots:1\n");
  expect(buildResolvConf(host, { dns: [], search: [], options: [] }, true)).toBe(buildResolvConf(host, none, true));
});

test("a container in the host's namespace has the host's file as it is, unless something is given", () => {
  expect(buildResolvConf(host, none, false)).toBe(host);
  expect(buildResolvConf(host, { ...none, search: ["c.example"] }, false)).toBe(
    "nameserver 192.0.2.53\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver 2001:db8::53\nsearch c.example\noptions ndots:2 edns0\n",
  );
});
