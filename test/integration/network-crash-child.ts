/**
 * An engine that does one thing to networks and is killed (SIGKILL) before its N-th step: a change of a file, or a message to the helper. Bundled and started by
 * network-crash.test.ts; prints how many steps there were when it comes to its end.
 *
 *     node network-crash-child.mjs '{"options":…,"operation":…,"failAt":…}'
 *
 * @module
 */
import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { Socket } from "node:net";
import { containerConfig } from "#api/types/container-config.ts";
import { hostConfig, networkingConfig } from "#api/types/host-config.ts";
import type { Engine, EngineOptions } from "#engine/mod.ts";
import { openEngine } from "#engine/open-engine.ts";
import type { Operation } from "./network-operations.ts";

export interface NetworkCrashRequest {
  readonly options: Omit<EngineOptions, "log">;
  readonly operation: Operation;
  /** The step that is not performed any more; 0 = all are. */
  readonly failAt: number;
}

let steps = 0;
let failAt = 0;

function step(): void {
  if (++steps === failAt) process.kill(process.pid, "SIGKILL");
}

/** Calls of `names` on `target` count from now on. */
function counted(target: object, names: readonly string[]): void {
  for (const name of names) {
    const original = Reflect.get(target, name) as (...args: unknown[]) => unknown;
    Reflect.set(target, name, function (this: unknown, ...args: unknown[]) {
      step();
      return original.apply(this, args);
    });
  }
}

const ipam = (subnet: string) => ({ IPAM: { Driver: "default", Options: null, Config: [{ Subnet: subnet }] } });
const asked = { IPAMConfig: null, Links: null, Aliases: null, DriverOpts: null };

/** A container with all that it may have on two networks: a published port, egress rules, names. */
async function create(engine: Engine): Promise<string> {
  const host = { NetworkMode: "blue", PortBindings: { "80/tcp": [{ HostIp: "", HostPort: "8033" }] }, WherryEgress: ["10.0.0.0/8:80", "x.example:1"] };
  const { id } = await engine.containers.create({
    name: "victim",
    config: containerConfig({ Image: "busybox", Cmd: ["sleep", "1000"] }, ""),
    hostConfig: hostConfig(host, ""),
    networkingConfig: networkingConfig({ EndpointsConfig: { blue: asked, red: asked } }, ""),
  });
  return id;
}

/** What is there before, and what is done then. */
async function prepare(engine: Engine, operation: Operation): Promise<() => Promise<unknown>> {
  if (operation === "create") return () => engine.networks.create({ Name: "late", ...ipam("10.91.9.0/24") });
  await engine.networks.create({ Name: "blue", ...ipam("10.91.1.0/24") });
  await engine.networks.create({ Name: "red", ...ipam("10.91.2.0/24") });
  await engine.networks.create({ Name: "late", ...ipam("10.91.9.0/24") });
  if (operation === "remove") return () => engine.networks.remove("late");
  const id = await create(engine);
  if (operation === "start") return () => engine.containers.start(id);
  await engine.containers.start(id);
  if (operation === "connect") return () => engine.networks.connect!("late", id, undefined);
  if (operation === "disconnect") return () => engine.networks.disconnect!("blue", id, false);
  if (operation === "confine") return () => engine.containers.update(id, { WherryEgress: ["10.0.0.7:81", "y.example"] }, undefined);
  if (operation === "stop") return () => engine.containers.stop(id, { timeout: 0 });
  return () => engine.containers.remove(id, { force: true, volumes: true });
}

const request = JSON.parse(process.argv[2]!) as NetworkCrashRequest; // our own test's
const engine = await openEngine({ ...request.options, log: () => undefined });
const work = await prepare(engine, request.operation);
counted(fs, ["mkdir", "rename", "writeFile", "unlink", "rm", "rmdir", "open"]);
syncBuiltinESMExports();
counted(Socket.prototype, ["write"]);
({ failAt } = request);
steps = 0;
await work();
const total = steps;
failAt = 0;
await engine.close();
console.log(total);
