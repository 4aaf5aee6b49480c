import { expect, test } from "vitest";
import { goDuration } from "./check-loop.ts";
import { httpOutcome, parseHttpTest, parseTcpTest } from "./network-probe.ts";
import { healthCheckOf, unknownTest } from "./health-check.ts";
import { afterProbe, delayMs, type ProbeResult, startingHealth, unprobedHealth } from "./health-state.ts";
import { FramePayloads, ProbeOutput } from "./probe-output.ts";

const check = (Healthcheck: NonNullable<Parameters<typeof healthCheckOf>[0]["Healthcheck"]>, Shell?: string[]) =>
  healthCheckOf({ Healthcheck, ...(Shell === undefined ? {} : { Shell }) });

test("docker's defaults", () => {
  expect(check({ Test: ["CMD-SHELL", "test -e /ok"], Interval: 0 })).toEqual({
    probe: ["/bin/sh", "-c", "test -e /ok"],
    intervalMs: 30_000,
    timeoutMs: 30_000,
    retries: 3,
    startPeriodMs: 0,
    startIntervalMs: 5000,
  });
});

test("nanoseconds, the image's shell, a command without one", () => {
  expect(check({ Test: ["CMD", "a", "b"], Interval: 1_500_000_000, Timeout: 1e6, Retries: 1, StartPeriod: 2e9, StartInterval: 3e9 })).toEqual({
    probe: ["a", "b"],
    intervalMs: 1500,
    timeoutMs: 1,
    retries: 1,
    startPeriodMs: 2000,
    startIntervalMs: 3000,
  });
  expect(check({ Test: ["CMD-SHELL", "x"] }, ["/bin/ash", "-ec"])?.probe).toEqual(["/bin/ash", "-ec", "x"]);
  expect(check({ Test: ["CMD", "x"], Interval: 1e18 })?.intervalMs).toBe(2 ** 31 - 1);
});

test("no check: none, NONE, only durations, an unknown word", () => {
  expect(healthCheckOf({})).toBeUndefined();
  for (const Test of [["NONE"], [], ["FOO", "x"]]) expect(check({ Test })).toBeUndefined();
  expect(check({ Interval: 5e9 })).toBeUndefined();
  expect(unknownTest({ Healthcheck: { Test: ["FOO", "x"] } })).toBe("FOO");
  for (const Test of [["NONE"], [], ["CMD", "x"], ["CMD-SHELL", "x"]]) expect(unknownTest({ Healthcheck: { Test } })).toBeUndefined();
});

const probe = (exitCode: number, startMs = 0): ProbeResult => ({ startMs, endMs: startMs + 5, exitCode, output: `at ${startMs}` });
const quick = { probe: ["x"], intervalMs: 100, timeoutMs: 50, retries: 2, startPeriodMs: 1000, startIntervalMs: 10 };

test("starting, healthy, unhealthy, and back", () => {
  let health = startingHealth(undefined);
  const steps = [1, 1, 0, 1, 1, 1, 0].map((code, i) => (health = afterProbe(health, quick, probe(code, 2000 + i * 100), 0)));
  expect(steps.map((h) => `${h.status} ${h.failingStreak}`)).toEqual([
    "starting 1",
    "unhealthy 2",
    "healthy 0",
    "healthy 1",
    "unhealthy 2",
    "unhealthy 3",
    "healthy 0",
  ]);
  expect(steps.at(-1)?.log.map((l) => l.output)).toEqual(["at 2200", "at 2300", "at 2400", "at 2500", "at 2600"]);
  expect(steps[0]?.log).toEqual([{ start: "1970-01-01T00:00:02Z", end: "1970-01-01T00:00:02.005Z", exitCode: 1, output: "at 2000" }]);
});

test("failures within the start period do not count, unless it has been healthy", () => {
  const starting = afterProbe(startingHealth(undefined), quick, probe(1, 999), 0);
  expect(starting).toMatchObject({ status: "starting", failingStreak: 0, log: [{ exitCode: 1 }] });
  expect(afterProbe(starting, quick, probe(1, 1000), 0)).toMatchObject({ status: "starting", failingStreak: 1 });
  const healthy = afterProbe(starting, quick, probe(0, 500), 0);
  expect(afterProbe(healthy, quick, probe(1, 600), 0)).toMatchObject({ status: "healthy", failingStreak: 1 });
  expect([delayMs(starting, quick, 999, 0), delayMs(starting, quick, 1000, 0), delayMs(healthy, quick, 500, 0)]).toEqual([10, 100, 100]);
});

test("a start keeps the log of the last run; one that nobody probes is unhealthy", () => {
  const ran = afterProbe(startingHealth(undefined), quick, probe(0), 0);
  expect(unprobedHealth(ran)).toEqual({ ...ran, status: "unhealthy" });
  expect(startingHealth(unprobedHealth(ran))).toEqual({ status: "starting", failingStreak: 0, log: ran.log });
});

test("times are exact to the millisecond, as far from 1970 as now", () => {
  const [entry] = afterProbe(startingHealth(undefined), quick, probe(0, 1_795_602_441_683), 0).log;
  expect([entry?.start, entry?.end]).toEqual(["2026-11-25T10:27:21.683Z", "2026-11-25T10:27:21.688Z"]);
});

test("4096 bytes of output are kept, and that there was more is said", () => {
  const output = new ProbeOutput();
  output.add(Buffer.alloc(4000, "a"));
  output.add(Buffer.alloc(96, "b"));
  expect(output.text).toBe("a".repeat(4000) + "b".repeat(96));
  output.add(Buffer.from("c"));
  output.add(Buffer.from("c"));
  expect(output.text).toBe(`${"a".repeat(4000)}${"b".repeat(96)}...`);
});

test("frames are read wherever they are cut", () => {
  const frame = (stream: number, text: string) => Buffer.concat([Buffer.from([stream, 0, 0, 0, 0, 0, 0, text.length]), Buffer.from(text)]);
  const bytes = Buffer.concat([frame(1, "one "), frame(2, ""), frame(2, "two "), frame(1, "three")]);
  for (let size = 1; size <= bytes.length; size++) {
    const frames = new FramePayloads();
    let text = "";
    for (let at = 0; at < bytes.length; at += size) for (const payload of frames.read(bytes.subarray(at, at + size))) text += Buffer.from(payload).toString();
    expect(text).toBe("one two three");
  }
});

test.each([
  [0.001, "1µs"],
  [500, "500ms"],
  [1.5, "1.5ms"],
  [1000, "1s"],
  [1500, "1.5s"],
  [30_000, "30s"],
  [90_000, "1m30s"],
  [3_600_000, "1h0m0s"],
  [7_325_250, "2h2m5.25s"],
])("%d ms is %s in Go", (ms, text) => {
  expect(goDuration(ms)).toBe(text);
});

test("HTTP and TCP tests: what is connected to, what is sent, what is refused", () => {
  expect(parseTcpTest("5432")).toEqual({
    addresses: [Buffer.of(127, 0, 0, 1), Buffer.from([...Array<number>(15).fill(0), 1])],
    port: 5432,
    request: new Uint8Array(),
    text: "TCP 5432",
  });
  expect(parseTcpTest("10.0.0.7:22")).toMatchObject({ addresses: [Buffer.of(10, 0, 0, 7)], port: 22 });
  expect(Buffer.from(parseTcpTest("[fd00::a:1.2.3.4]:1").addresses[0] ?? []).toString("hex")).toBe("fd00000000000000" + "0000000a01020304");
  for (const text of [":8080/x?y=1", "8080/x?y=1", "http://localhost:8080/x?y=1"]) {
    const { port, request } = parseHttpTest(text);
    expect(port).toBe(8080);
    expect(Buffer.from(request).toString()).toMatch(/^GET \/x\?y=1 HTTP\/1\.0\r\nHost: localhost:8080\r\n/);
  }
  expect(parseHttpTest("http://[::1]/").addresses).toEqual([Buffer.from([...Array<number>(15).fill(0), 1])]);
  for (const wrong of ["", "x", "70000", "web:80", "1:2:3"]) expect(() => parseTcpTest(wrong), wrong).toThrow(/invalid health check/);
  expect(parseHttpTest("https://localhost/x")).toMatchObject({ port: 443, tls: { name: "localhost", ca: undefined } });
  expect(parseHttpTest("https://[::1]:8443/")).toMatchObject({ port: 8443, tls: { name: "::1" } });
  expect(parseHttpTest("http://localhost/").tls).toBeUndefined();
  expect(() => parseHttpTest("https://localhost/", "no PEM")).toThrow(/its certificates are not PEM/);
  expect(() => parseHttpTest("http://localhost/", "x")).toThrow(/certificates are for https/);
  for (const wrong of ["", "https://web/", "http://web/", "file:///etc/passwd"]) expect(() => parseHttpTest(wrong), wrong).toThrow(/invalid health check/);
  const outcome = (text: string) => httpOutcome(Buffer.from(text));
  expect(outcome("HTTP/1.1 204 No Content\r\nA: b\r\n\r\n")).toEqual({ exitCode: 0, output: "HTTP/1.1 204 No Content" });
  expect(outcome("HTTP/1.0 503 Busy\r\n\r\nwarming up")).toEqual({ exitCode: 1, output: "HTTP/1.0 503 Busy\nwarming up" });
  expect(outcome("SSH-2.0")).toEqual({ exitCode: 1, output: "the answer is not HTTP" });
});
