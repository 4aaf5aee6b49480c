import { expect, test } from "vitest";
import type { OciSeccomp } from "#core/runtime-spec.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { seccompFlags, seccompListener, seccompProgram } from "./seccomp.ts";

// Compiling reads no other fact.
const facts = { kernel: { arch: "x86_64" } } as unknown as HostFacts;
const notifying = (extra: Partial<OciSeccomp> = {}): OciSeccomp => ({
  defaultAction: "SCMP_ACT_ALLOW",
  syscalls: [{ names: ["mount"], action: "SCMP_ACT_NOTIFY" }],
  ...extra,
});
const state = { ociVersion: "1.2.0", id: "c", status: "creating" };

test("calls that somebody else answers need somebody else", () => {
  expect(() => seccompProgram(notifying(), facts)).toThrow("without a listenerPath");
  expect(() => seccompProgram({ defaultAction: "SCMP_ACT_NOTIFY", listenerPath: "/s" }, facts)).toThrow("cannot be the default");
  expect(() => seccompProgram(notifying({ listenerPath: "/s", syscalls: [{ names: ["write"], action: "SCMP_ACT_NOTIFY" }] }), facts)).toThrow("for write");
  expect(() => seccompListener(notifying({ listenerMetadata: "x" }), state)).toThrow("without a listenerPath");
  expect(seccompProgram(notifying({ listenerPath: "/s" }), facts)?.length).toBeGreaterThan(0);
});

test("the container process state, around the pid", () => {
  const listener = seccompListener(notifying({ listenerPath: "/s", listenerMetadata: "meta" }), state);
  const text = [listener?.head, listener?.tail].map((part) => Buffer.from(part ?? []).toString()).join("7");
  expect(JSON.parse(text)).toEqual({ ociVersion: "1.2.0", fds: ["seccompFd"], pid: 7, metadata: "meta", state });
  expect(seccompListener({ defaultAction: "SCMP_ACT_ALLOW", listenerPath: "/s" }, state), "nobody is asked").toBeUndefined();
});

test("flags", () => {
  expect(seccompFlags(undefined)).toBe(4);
  expect(seccompFlags({ defaultAction: "x", flags: ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"] })).toBe(3);
  expect(() => seccompFlags({ defaultAction: "x", flags: ["constructor"] })).toThrow("unknown");
});
