/**
 * Many at once: subscribers of whom one does not read, long logs, execs, containers. What is counted is that everybody gets all, and what the daemon holds
 * meanwhile; how long it takes is measured elsewhere (bench).
 */
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { FramePayloads } from "#container/health/probe-output.ts";
import { patient } from "../patience.ts";
import { TestDaemon, whyNot, wherryPath } from "./daemon.ts";
import { ok } from "./run.ts";

const SUBSCRIBERS = 200;
/** What one client that does not read, or a whole log, may make the daemon hold; it is 250 to 300 MiB with two hundred that follow a log (500, when each read as much as one that reads alone). */
const PEAK_MIB = 400;

const missing = whyNot();
if (missing !== undefined) test.skip(`load: ${missing}`, () => undefined);
else
  describe("load", () => {
    const daemon = new TestDaemon({ checked: false });
    const wherry = (...args: string[]) => ok([wherryPath, ...args], { env: { WHERRY_HOST: daemon.host } });
    const requests: ClientRequest[] = [];

    /** Only its beginning is awaited; nothing is read. */
    async function open(path: string): Promise<IncomingMessage> {
      const asked = request({ socketPath: daemon.socket, path: `/v1.51${path}`, agent: false }).end();
      requests.push(asked);
      const [reply] = (await once(asked, "response")) as [IncomingMessage];
      expect(reply.statusCode).toBe(200);
      return reply;
    }
    /** Resolves when so many bytes `newline` have come, or the stream has ended. */
    async function lines(reply: IncomingMessage, wanted = Number.POSITIVE_INFINITY): Promise<number> {
      let count = 0;
      for await (const chunk of reply as AsyncIterable<Buffer>) {
        for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1)) count++;
        if (count >= wanted) return count;
      }
      return count;
    }
    async function start(script: string): Promise<string> {
      const created = await daemon.api("POST", "/containers/create", { Image: "busybox", Cmd: ["sh", "-c", script], HostConfig: { NetworkMode: "none" } });
      const { Id } = created.json<{ Id: string }>();
      expect((await daemon.api("POST", `/containers/${Id}/start`)).status).toBe(204);
      return Id;
    }
    /** Works on all of them, eight at a time. */
    async function each<T>(list: readonly T[], work: (one: T) => Promise<unknown>): Promise<void> {
      const rest = [...list];
      const worker = async () => {
        for (let one = rest.pop(); one !== undefined; one = rest.pop()) await work(one);
      };
      await Promise.all(Array.from({ length: 8 }, worker));
    }
    const forgetPeak = () => writeFileSync(`/proc/${daemon.pid}/clear_refs`, "5");
    const peakMiB = () => Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${daemon.pid}/status`, "utf8"))?.[1]) / 1024;
    const descriptors = () => Number(/FDSize:\s+(\d+)/.exec(readFileSync(`/proc/${daemon.pid}/status`, "utf8"))?.[1]);

    beforeAll(async () => {
      await daemon.start();
      await wherry("image", "bootstrap", "busybox");
    }, patient(60_000));
    afterEach(async () => {
      for (const asked of requests.splice(0)) asked.destroy();
      for (const { Id } of (await daemon.api("GET", "/containers/json?all=1")).json<{ Id: string }[]>())
        await daemon.api("DELETE", `/containers/${Id}?force=1`);
    });
    afterAll(async () => {
      expect(await daemon.stop()).toEqual([]);
    }, patient(60_000));

    test(`${SUBSCRIBERS} read events: each gets all of them, whatever one does that does not read; that one, too, when it does`, {
      timeout: patient(60_000),
    }, async () => {
      const volumes = Array.from({ length: 200 }, (_, i) => `v${i}-${"x".repeat(200)}`);
      const asleep = await open("/events");
      const awake = await Promise.all(Array.from({ length: SUBSCRIBERS }, () => open("/events")));
      const counts = Promise.all(awake.map((reply) => lines(reply, 2 * volumes.length)));
      forgetPeak();
      await each(volumes, async (Name) => {
        expect((await daemon.api("POST", "/volumes/create", { Name })).status).toBe(201);
        expect((await daemon.api("DELETE", `/volumes/${Name}`)).status).toBe(204);
      });
      expect(new Set(await counts)).toEqual(new Set([2 * volumes.length]));
      expect(peakMiB()).toBeLessThan(PEAK_MIB);
      expect(await lines(asleep, 2 * volumes.length)).toBe(2 * volumes.length);
    });

    test(`${SUBSCRIBERS} follow a container's log: each gets all of it, whatever one does that does not read`, { timeout: patient(60_000) }, async () => {
      const id = await start(`while [ ! -e /go ]; do sleep 0.1; done; awk 'BEGIN { for (i = 1; i <= 5000; i++) printf "%d %0100d\\n", i, 0 }'`);
      const path = `/containers/${id}/logs?stdout=1&follow=1`;
      const asleep = await open(path);
      const awake = await Promise.all(Array.from({ length: SUBSCRIBERS }, () => open(path)));
      const counts = Promise.all(awake.map((reply) => lines(reply)));
      forgetPeak();
      await wherry("exec", id, "touch", "/go");
      expect(new Set(await counts)).toEqual(new Set([5000]));
      expect(peakMiB()).toBeLessThan(PEAK_MIB);
      expect(await lines(asleep)).toBe(5000);
      await wherry("rm", "-f", id);
    });

    test("half a million lines: read whole, in order; the last ten; a follower that does not read holds nothing up", { timeout: patient(90_000) }, async () => {
      const count = 500_000;
      const id = await start(
        `while [ ! -e /go ]; do sleep 0.1; done; awk 'BEGIN { for (i = 1; i <= ${count}; i++) printf "%d %0100d\\n", i, 0 }'; touch /done; sleep 1000`,
      );
      const asleep = await open(`/containers/${id}/logs?stdout=1&follow=1`);
      forgetPeak();
      await wherry("exec", id, "touch", "/go");
      await wherry("exec", id, "sh", "-c", "while [ ! -e /done ]; do sleep 0.1; done");
      const frames = new FramePayloads();
      let [next, rest] = [1, ""];
      for await (const chunk of (await open(`/containers/${id}/logs?stdout=1`)) as AsyncIterable<Buffer>) {
        for (const payload of frames.read(chunk)) rest += Buffer.from(payload).toString("latin1");
        const found = rest.split("\n");
        rest = found.pop() ?? "";
        for (const line of found) if (line !== `${next++} ${"0".repeat(100)}`) throw new Error(`line ${next - 1} is ${line}`);
      }
      expect([next - 1, rest]).toEqual([count, ""]);
      const last = (await wherry("logs", "--tail", "10", id)).split("\n");
      expect(last.map((line) => Number(line.split(" ")[0]))).toEqual(Array.from({ length: 10 }, (_, i) => count - 9 + i));
      expect(peakMiB()).toBeLessThan(PEAK_MIB);
      expect(await lines(asleep, count)).toBe(count);
      await wherry("rm", "-f", id);
    });

    test("fifty execs at once: each has its own output and exit code", { timeout: patient(60_000) }, async () => {
      const id = await start("sleep 1000");
      const numbers = Array.from({ length: 50 }, (_, i) => i);
      const said = await Promise.all(numbers.map((n) => wherry("exec", id, "sh", "-c", `echo ${n}; cat /proc/self/status | grep -c Name`)));
      expect(said).toEqual(numbers.map((n) => `${n}\n1`));
      expect((await daemon.api("GET", `/containers/${id}/json`)).json<{ ExecIDs: string[] | null }>().ExecIDs).toBeNull();
      await wherry("rm", "-f", id);
    });

    test("lists with sizes, and df, while containers come and go", { timeout: patient(60_000) }, async () => {
      let going = true;
      const looked = async (path: string) => {
        let times = 0;
        for (; going; times++) expect(await daemon.api("GET", path)).toMatchObject({ status: 200 });
        return times;
      };
      const looking = Promise.all(["/containers/json?all=1&size=1", "/system/df", "/containers/json?all=1&size=1"].map(looked));
      try {
        await each(
          Array.from({ length: 120 }, (_, i) => i),
          async (n) => {
            const Cmd = n % 2 === 0 ? ["true"] : ["sleep", "100"];
            const created = await daemon.api("POST", "/containers/create", { Image: "busybox", Cmd, HostConfig: { NetworkMode: "none" } });
            const { Id } = created.json<{ Id: string }>();
            if (n % 3 !== 0) await daemon.api("POST", `/containers/${Id}/start`);
            if (n % 5 === 0) {
              const committed = await daemon.api("POST", `/commit?container=${Id}&repo=c${n}`, {});
              expect(committed.json()).toEqual({ Id: expect.stringMatching(/^sha256:/) });
              expect((await daemon.api("DELETE", `/images/${committed.json<{ Id: string }>().Id}?force=1`)).status).toBe(200);
            }
            expect((await daemon.api("DELETE", `/containers/${Id}?force=1`)).status).toBe(204);
          },
        );
      } finally {
        going = false;
      }
      for (const times of await looking) expect(times).toBeGreaterThan(3);
    });

    test("a thousand containers in ps; nothing of them is left when they are gone", { timeout: patient(120_000) }, async () => {
      const names = Array.from({ length: 1000 }, (_, i) => `c${i}`);
      const before = descriptors();
      forgetPeak();
      await each(names, async (name) => {
        const body = { Image: "busybox", Cmd: ["true"], HostConfig: { NetworkMode: "none" } };
        expect((await daemon.api("POST", `/containers/create?name=${name}`, body)).status).toBe(201);
      });
      expect((await wherry("ps", "-a", "--format", "{{.Names}}")).split("\n").sort()).toEqual([...names].sort());
      expect((await wherry("ps", "-aq", "--filter", "name=^/c99", "--filter", "status=created")).split("\n")).toHaveLength(11);
      expect(peakMiB()).toBeLessThan(PEAK_MIB);
      await each(names, async (name) => {
        expect((await daemon.api("DELETE", `/containers/${name}`)).status).toBe(204);
      });
      expect(await wherry("ps", "-aq")).toBe("");
      expect(descriptors()).toBeLessThanOrEqual(Math.max(2 * before, 256));
    });
  });
