/**
 * Bandwidth limits, measured: what arrives at a container, and what leaves it, counted by the host's end of its cable (Ethernet frames, as the limit counts them).
 * Everything stays on a bridge of the test's own.
 */
import { readFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestEngine } from "./engine-setup.ts";

if (process.getuid?.() !== 0) test.skip("bandwidth: needs root", () => undefined);
else {
  let t: TestEngine;
  let source: Server; // sends for ever
  let sink: Server;
  const sockets = new Set<Socket>();

  const listen = (server: Server) => new Promise<void>((resolve) => server.listen(0, "0.0.0.0", resolve));
  const portOf = (server: Server) => (server.address() as { port: number }).port;
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined); // the container's end went away
    socket.on("close", () => sockets.delete(socket));
  };

  beforeAll(async () => {
    t = await TestEngine.open();
    const block = Buffer.alloc(64 << 10);
    source = createServer((socket) => {
      keep(socket);
      const more = () => {
        while (!socket.destroyed && socket.write(block));
      };
      socket.on("drain", more);
      more();
    });
    sink = createServer((socket) => {
      keep(socket);
      socket.resume();
    });
    await Promise.all([listen(source), listen(sink)]);
  });

  afterAll(async () => {
    await t[Symbol.asyncDispose]();
    for (const socket of sockets) socket.destroy();
    for (const server of [source, sink]) server.close();
  });

  /** A container that receives and one that sends, as fast as they may. */
  const gateway = (id: string) => t.engine.containers.get(id).endpoints["bridge"]?.Gateway ?? "";
  async function busy(direction: "in" | "out", rate: Record<string, string> | undefined): Promise<string> {
    const id = await t.start(["sleep", "600"], {}, { NetworkMode: "bridge", ...(rate && { WherryNetworkRate: rate }) });
    const command = direction === "in" ? `sleep 600 | nc ${gateway(id)} ${portOf(source)} >/dev/null` : `nc ${gateway(id)} ${portOf(sink)} </dev/zero`;
    await t.exec(id, ["sh", "-c", `${command} 2>/dev/null &`], { AttachStdout: false, AttachStderr: false });
    return id;
  }

  /** Bits per second over the next while, at the host's end: what it sends is what the container receives. */
  async function measure(id: string, direction: "in" | "out", seconds: number): Promise<number> {
    const name = t.engine.containers.get(id).endpoints["bridge"]?.HostInterface ?? "";
    const count = () => Number(readFileSync(`/sys/class/net/${name}/statistics/${direction === "in" ? "tx" : "rx"}_bytes`, "utf8"));
    const [from, start] = [count(), process.hrtime.bigint()];
    await sleep(seconds * 1000);
    return ((count() - from) * 8) / (Number(process.hrtime.bigint() - start) / 1e9);
  }

  /** More than the rate it may never be; that it is reached may take some tries on a machine that is busy. */
  async function holds(id: string, direction: "in" | "out", mbit: number): Promise<void> {
    const seen: number[] = [];
    await sleep(1000); // the first bucket was full; a change takes effect within a second
    while (seen.length < 8 && !seen.some((rate) => rate >= 0.95 * mbit)) seen.push((await measure(id, direction, 1.5)) / 1e6);
    const text = `${direction} at ${mbit} Mbit/s: ${seen.map((rate) => rate.toFixed(2)).join(", ")}`;
    console.log(text);
    expect(Math.max(...seen), text).toBeLessThanOrEqual(1.05 * mbit);
    expect(Math.max(...seen), text).toBeGreaterThanOrEqual(0.95 * mbit);
  }

  /** Not limited: on a machine that is busy it may take some tries to show. */
  async function exceeds(id: string, direction: "in" | "out", mbit: number): Promise<void> {
    const seen: number[] = [];
    while (seen.length < 20 && !seen.some((rate) => rate > mbit)) seen.push((await measure(id, direction, 0.5)) / 1e6);
    expect(Math.max(...seen)).toBeGreaterThan(mbit);
  }

  test.each(["in", "out"] as const)(
    "1, 20 and 100 Mbit/s %s, changed while it runs, and the neighbour is free",
    async (direction) => {
      const neighbour = await busy(direction, undefined);
      const free = (await measure(neighbour, direction, 0.5)) / 1e6;
      expect(free).toBeGreaterThan(150);
      const id = await busy(direction, { rate: "1mbit" });
      await holds(id, direction, 1);
      for (const mbit of [20, 100]) {
        await t.engine.containers.update(id, { WherryNetworkRate: { rate: `${mbit}mbit` } }, undefined);
        await holds(id, direction, mbit);
      }
      expect(t.engine.containers.get(id).hostConfig.WherryNetworkRate).toEqual({ rate: "100mbit" });
      await exceeds(neighbour, direction, 150);
      await t.engine.containers.remove(neighbour, { force: true, volumes: true });
      await t.engine.containers.update(id, { WherryNetworkRate: { rate: "unlimited" } }, undefined);
      await sleep(500);
      expect((await measure(id, direction, 0.5)) / 1e6).toBeGreaterThan(150);
      await t.engine.containers.remove(id, { force: true, volumes: true });
    },
    120_000,
  );

  test("each direction has its own limit; labels ask for the same", async () => {
    const id = await t.create(["sleep", "600"], { Labels: { "wherry.network.egress": "8mbit" } }, { NetworkMode: "bridge" });
    expect(t.engine.containers.get(id).hostConfig.WherryNetworkRate).toEqual({ egress: "8mbit" });
    await t.engine.containers.start(id);
    await t.exec(id, ["sh", "-c", `nc ${gateway(id)} ${portOf(sink)} </dev/zero 2>/dev/null &`], { AttachStdout: false, AttachStderr: false });
    await holds(id, "out", 8);
    await t.exec(id, ["sh", "-c", `sleep 600 | nc ${gateway(id)} ${portOf(source)} >/dev/null 2>&1 &`], { AttachStdout: false, AttachStderr: false });
    await exceeds(id, "in", 20);
    await t.engine.containers.remove(id, { force: true, volumes: true });
  }, 60_000);

  test("what cannot be is refused with a reason", async () => {
    const create = (rate: Record<string, string>, mode = "bridge") => t.create(["true"], {}, { NetworkMode: mode, WherryNetworkRate: rate });
    await expect(create({ rate: "fast" })).rejects.toMatchObject({ code: "invalid", message: expect.stringContaining('invalid network rate "fast"') });
    await expect(create({ rate: "1mbit" }, "none")).rejects.toMatchObject({ code: "invalid", message: expect.stringContaining("no cable") });
    const impaired = await create({ latency: "1ms" }).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (impaired !== undefined) expect(impaired).toMatchObject({ code: "unsupported", message: expect.stringContaining("this kernel has no netem") });
  });
}
