/** An engine of its own for a test file: own roots, own bridge, own cgroups; a busybox image in it. */
import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm, rmdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { hostConfig, networkingConfig } from "#api/types/host-config.ts";
import { containerConfig } from "#api/types/container-config.ts";
import { errnoOf } from "#core/errors.ts";
import type { ContainerConfig, HostConfig } from "#core/container-config.ts";
import type { Engine, EngineOptions } from "#engine/mod.ts";
import { openEngine } from "#engine/open-engine.ts";
import { patient } from "../patience.ts";

export const helperPath: string = fileURLToPath(new URL("../../dist/bin/wherry-helper", import.meta.url));

export class TestEngine implements AsyncDisposable {
  readonly root: string;
  readonly options: EngineOptions;
  readonly warnings: string[] = [];
  engine!: Engine;

  private constructor(root: string, name: string, storageDriver: string | undefined) {
    this.root = root;
    this.options = {
      dataRoot: join(root, "data"),
      execRoot: join(root, "run"),
      helperPath,
      ...(storageDriver === undefined ? {} : { storageDriver }),
      cgroupParent: `/wherry-test-${name}`,
      bridge: { name: `wt${name.slice(0, 10)}` },
      log: (level, message) => {
        if (level === "warn" || level === "error") this.warnings.push(message);
      },
    };
  }

  /** Only root can; the caller skips otherwise. */
  static async open(storageDriver?: string): Promise<TestEngine> {
    if (!existsSync(helperPath)) throw new Error("build first: npm run build");
    const root = await mkdtemp(join(tmpdir(), "wherry-e-"));
    const test = new TestEngine(root, root.slice(-6).toLowerCase(), storageDriver);
    test.engine = await openEngine(test.options);
    await test.engine.images.bootstrap("busybox", () => undefined);
    return test;
  }

  async reopen(): Promise<void> {
    await this.engine.close();
    this.engine = await openEngine(this.options);
  }

  request(
    image: string,
    cmd: readonly string[],
    config: Partial<ContainerConfig> = {},
    host: Partial<HostConfig> = {},
    name?: string,
  ): Parameters<Engine["containers"]["create"]>[0] {
    return {
      name,
      config: containerConfig({ Image: image, Cmd: [...cmd], ...config }, ""),
      hostConfig: hostConfig({ NetworkMode: "none", ...host }, ""),
      networkingConfig: networkingConfig({}, ""),
    };
  }

  async create(cmd: readonly string[], config: Partial<ContainerConfig> = {}, host: Partial<HostConfig> = {}, name?: string): Promise<string> {
    return (await this.engine.containers.create(this.request("busybox", cmd, config, host, name))).id;
  }

  async start(cmd: readonly string[], config: Partial<ContainerConfig> = {}, host: Partial<HostConfig> = {}, name?: string): Promise<string> {
    const id = await this.create(cmd, config, host, name);
    await this.engine.containers.start(id);
    return id;
  }

  /** Runs to the end. */
  async run(
    cmd: readonly string[],
    config: Partial<ContainerConfig> = {},
    host: Partial<HostConfig> = {},
  ): Promise<{ readonly id: string; readonly code: number; readonly reason: string | undefined; readonly out: string; readonly err: string }> {
    const id = await this.create(cmd, config, host);
    const ended = this.engine.containers.wait(id, "next-exit");
    await this.engine.containers.start(id);
    const { exitCode, reason } = await ended;
    return { id, code: exitCode, reason, ...(await this.logs(id)) };
  }

  async logs(id: string, { sinceNs }: { readonly sinceNs?: bigint | undefined } = {}): Promise<{ readonly out: string; readonly err: string }> {
    const text = { stdout: "", stderr: "" };
    for await (const entries of this.engine.containers.logs(id, {
      stdout: true,
      stderr: true,
      follow: false,
      tail: undefined,
      sinceNs,
      untilNs: undefined,
    }))
      for (const { stream, log } of entries) text[stream] += Buffer.from(log).toString();
    return { out: text.stdout, err: text.stderr };
  }

  async exec(
    container: string,
    cmd: readonly string[],
    config: Partial<Parameters<Engine["execs"]["create"]>[1]> = {},
  ): Promise<{ readonly code: number; readonly out: string }> {
    const id = await this.engine.execs.create(container, {
      AttachStdin: false,
      AttachStdout: true,
      AttachStderr: true,
      DetachKeys: "",
      Tty: false,
      Cmd: [...cmd],
      Env: null,
      WorkingDir: "",
      User: "",
      Privileged: false,
      ...config,
    });
    const attached = await this.engine.execs.start(id, { detach: false, tty: config.Tty ?? false });
    const out = attached === undefined ? "" : await readAll(attached.stream, attached.framed);
    return { code: await this.engine.execs.wait(id), out };
  }

  async removeAll(): Promise<void> {
    for (const { id } of this.engine.containers.list({ all: true, limit: undefined, filters: {} }))
      await this.engine.containers.remove(id, { force: true, volumes: true });
  }

  /** All that users have made; containers must be gone from them. */
  async removeNetworks(): Promise<void> {
    for (const { Name } of this.engine.networks.list({ type: ["custom"] })) await this.engine.networks.remove(Name);
  }

  /** What is left of containers below the roots, and their cgroups, when the engine has had time to delete it; only of paths with `part`. */
  leftovers(part = ""): Promise<string[]> {
    return eventually(
      async () => (await this.#leftoversNow()).filter((path) => path.includes(part)),
      (left) => left.length === 0,
    );
  }

  async #leftoversNow(): Promise<string[]> {
    const left: string[] = [];
    for (const directory of ["data/containers", "run/c"]) left.push(...(await readdir(join(this.root, directory))).map((name) => `${directory}/${name}`));
    for (const name of await readdir(join(this.root, "data/overlay2")))
      if (/^[0-9a-f]{64}$/.test(name) && !existsSync(join(this.root, "data/overlay2", name, "layer.json"))) left.push(`overlay2/${name}`);
    for (const hierarchy of ["memory", ""]) {
      const group = join("/sys/fs/cgroup", hierarchy, this.options.cgroupParent ?? "");
      if (existsSync(group)) left.push(...(await readdir(group, { withFileTypes: true })).filter((e) => e.isDirectory()).map((e) => `${group}/${e.name}`));
    }
    return left;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.removeAll();
    await this.engine.close();
    await rm(this.root, { recursive: true, force: true });
    await this.#removeCgroupParent();
  }

  /** The engine leaves a parent that it was given by name; this one is ours. A monitor in it may still wait for a client to see the end. */
  async #removeCgroupParent(): Promise<void> {
    const hierarchies = ["", ...(await readdir("/sys/fs/cgroup", { withFileTypes: true })).filter((e) => e.isDirectory()).map((e) => e.name)];
    for (const hierarchy of hierarchies) await until(() => isRemoved(join("/sys/fs/cgroup", hierarchy, this.options.cgroupParent ?? "")), 12_000);
  }
}

/** False while it is in use. */
async function isRemoved(cgroup: string): Promise<boolean> {
  try {
    await rmdir(cgroup);
  } catch (error) {
    if (errnoOf(error) === "EBUSY") return false;
    if (errnoOf(error) !== "ENOENT") throw error;
  }
  return true;
}

/** Everything of a stream; of a framed one the payloads only. */
export async function readAll(stream: AsyncIterable<Uint8Array>, framed: boolean): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  if (!framed) return bytes.toString();
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32BE(at + 4);
    text += bytes.subarray(at + 8, at + 8 + length).toString();
    at += 8 + length;
  }
  return text;
}

/** Waits until something is true; throws when it does not become so. */
export async function until(condition: () => boolean | Promise<boolean>, ms = 20_000): Promise<void> {
  const end = performance.now() + patient(ms);
  while (!(await condition())) {
    if (performance.now() > end) throw new Error("waited in vain");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** What is seen once it is good, or else the last that was seen. */
export async function eventually<T>(look: () => Promise<T>, good: (value: T) => boolean, ms = 3000): Promise<T> {
  const end = performance.now() + patient(ms);
  for (;;) {
    const value = await look();
    if (good(value) || performance.now() > end) return value;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
