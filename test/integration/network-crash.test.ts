/**
 * `kill -9` of an engine before each step of what it does to networks. The next engine knows the networks and containers that there are, and the host has for them
 * what it must and nothing else: no cable, bridge, rule, address or route is left when they have been removed.
 *
 * Without WHERRY_CRASH_STEPS=all (`npm run test:crash`) a sample of the steps is taken; WHERRY_CRASH_OPERATION=start takes one of the operations.
 * @module
 */
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, TestEngine } from "./engine-setup.ts";
import type { NetworkCrashRequest } from "./network-crash-child.ts";
import { type Operation, OPERATIONS } from "./network-operations.ts";
import { inOwnHost, sh } from "./own-host.fixture.ts";

const everyStep = process.env["WHERRY_CRASH_STEPS"] === "all";
const SAMPLED = 3;

inOwnHost(import.meta.filename, { title: "networks of engines that were killed", limitMs: everyStep ? 7_200_000 : 240_000 }, ["nft"], () => {
  let t: TestEngine;
  let program: string;
  const cables = () => (sh("ip -o link").match(/ veth\w+/g) ?? []).length;
  const bridges = () => [...sh("ip -o link show type bridge").matchAll(/^\d+: ([^:@]+)/gm)].map(([, name]) => name ?? "").sort();
  const ruleset = () => sh("nft list ruleset");
  const bare = () => ({ links: sh("ip -o link | grep -v ' lo:' || true"), routes: sh("ip route; ip -6 route"), rules: ruleset() });

  beforeAll(async () => {
    t = await TestEngine.open();
    await t.engine.close();
    program = join(t.root, "child.mjs");
    await build({
      entryPoints: [join(import.meta.dirname, "network-crash-child.ts")],
      outfile: program,
      bundle: true,
      platform: "node",
      format: "esm",
      target: "node20",
      logLevel: "error",
      define: { WHERRY_VERSION: JSON.stringify("0.0.0") },
      banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(process.argv[1]);" },
    });
  }, 60_000);
  afterAll(async () => {
    await t.reopen();
    await t[Symbol.asyncDispose]();
  });

  /** Steps that it had; undefined: it was killed. */
  async function child(operation: Operation, failAt: number): Promise<number | undefined> {
    const { log: _log, ...options } = t.options;
    const request: NetworkCrashRequest = { options, operation, failAt };
    const running = spawn(process.execPath, [program, JSON.stringify(request)], { stdio: ["ignore", "pipe", "inherit"] });
    let out = "";
    running.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
    const [code, signal] = await new Promise<[number | null, string | null]>((resolve) => running.on("close", (...end) => resolve(end)));
    if (signal === "SIGKILL") return undefined;
    if (code !== 0) throw new Error(`${operation} ended with ${code}`);
    return Number(out);
  }

  /** What the next engine makes of it; then all is removed. */
  async function verify(at: number): Promise<void> {
    await t.reopen();
    const containers = t.engine.containers.list({ all: true, limit: undefined, filters: {} }).map(({ id }) => t.engine.containers.get(id));
    const running = containers.filter(({ state }) => state.status === "running");
    const endpoints = running.flatMap((container) => Object.values(container.endpoints));
    // a container that was being launched may end a moment later
    await eventually(
      async () => cables(),
      (count) => count === endpoints.length,
      5000,
    );
    expect({ at, cables: cables() }).toEqual({ at, cables: endpoints.length });
    const known = new Set([t.options.bridge!.name, ...t.engine.networks.list({}).map(({ Id }) => `br-${Id.slice(0, 12)}`)]);
    expect({ at, unknown: bridges().filter((name) => !known.has(name)) }).toEqual({ at, unknown: [] });
    const elements = [...ruleset().matchAll(/10\.91\.\d+\.(?!(?:0|1|255)\b)\d+/g)].map(([address]) => address);
    expect({ at, strangers: elements.filter((address) => !endpoints.some(({ IPAddress }) => IPAddress === address)) }).toEqual({ at, strangers: [] });
    await t.removeAll();
    await t.removeNetworks();
    await t.engine.close();
    expect({ at, left: readdirSync(join(t.root, "run/c")) }).toEqual({ at, left: [] });
  }

  const only = process.env["WHERRY_CRASH_OPERATION"];
  test.each<Operation>(OPERATIONS.filter((operation) => only === undefined || operation === only))(
    "%s",
    { timeout: everyStep ? 1_800_000 : 120_000 },
    async (operation) => {
      const before = bare();
      const total = await child(operation, 0);
      if (total === undefined || total < 2) throw new Error(`${operation} has ${total} steps`);
      await verify(0);
      expect(bare()).toEqual(before);
      const count = everyStep ? total : Math.min(total, SAMPLED);
      for (const at of Array.from({ length: count }, (_, i) => 1 + Math.round((i * (total - 1)) / Math.max(1, count - 1)))) {
        await child(operation, at);
        await verify(at);
        expect({ at, ...bare() }).toEqual({ at, ...before });
      }
    },
  );
});
