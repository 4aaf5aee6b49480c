import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { EngineError } from "#core/errors.ts";
import type { Helper } from "#linux/helper.ts";
import { programResult, runProgram } from "#linux/run-program.ts";

/** Whoever had it open may be ending just now, zfs-fuse lets go a moment after the unmount, and what lies on it may be on its way out. */
const busyMs = 30_000;

type Properties = Readonly<Record<string, string>>;

/** The program zfs(8): that of the kernel's ZFS, or zfs-fuse's. */
export class Zfs {
  readonly #helper: Helper;
  readonly #program: string;

  constructor(helper: Helper, program: string) {
    this.#helper = helper;
    this.#program = program;
  }

  async create(dataset: string, properties: Properties): Promise<void> {
    await this.#run(["create", ...options(properties), dataset], `making the dataset ${dataset}`);
  }

  async clone(snapshot: string, dataset: string, properties: Properties): Promise<void> {
    await this.#run(["clone", ...options(properties), snapshot, dataset], `cloning ${snapshot}`);
  }

  async snapshot(snapshot: string): Promise<void> {
    await this.#run(["snapshot", snapshot], `making the snapshot ${snapshot}`);
  }

  async set(dataset: string, property: string, value: string): Promise<void> {
    await this.#run(["set", `${property}=${value}`, dataset], `setting ${property} of ${dataset}`);
  }

  /** With its snapshots; missing is no error. "not mounted": zfs-fuse takes a dataset for mounted for a moment longer than it is. */
  async destroy(dataset: string): Promise<void> {
    const what = `destroying the dataset ${dataset}`;
    const until = Date.now() + busyMs;
    for (let delay = 5; ; delay = Math.min(2 * delay, 200)) {
      const { code, output } = await programResult(this.#helper, [this.#program, "destroy", "-r", dataset], what);
      if (code === 0 || output.includes("dataset does not exist")) return;
      if (!/\bbusy\b|has dependent clones|not mounted/.test(output) || Date.now() > until)
        throw new EngineError("kernel", `${what}: ${output.trim()}`, { details: { code, output } });
      await sleep(delay);
    }
  }

  /** Datasets right below one, oldest first. */
  async list(parent: string, property: string): Promise<readonly { readonly name: string; readonly owner: string }[]> {
    const text = await this.#run(
      ["list", "-H", "-r", "-t", "filesystem", "-s", "creation", "-o", `name,${property}`, parent],
      `listing what is below ${parent}`,
    );
    return text.split("\n").flatMap((line) => {
      const [dataset = "", owner = ""] = line.split("\t");
      return dataset.startsWith(`${parent}/`) ? [{ name: dataset, owner }] : [];
    });
  }

  /** `info`'s lines, as Docker prints them. */
  async status(dataset: string): Promise<readonly (readonly [string, string])[]> {
    const [pool = ""] = dataset.split("/");
    const names = ["used", "available", "quota", "compression"];
    const values = await this.#run(["get", "-H", "-p", "-o", "value", names.join(","), dataset], `looking at ${dataset}`);
    const [used = "", available = "", quota = "", compression = ""] = values.split("\n");
    const zpool = join(dirname(this.#program), "zpool");
    const health = await programResult(this.#helper, [zpool, "list", "-H", "-o", "health", pool], `looking at the pool ${pool}`);
    return [
      ["Zpool", pool],
      ["Zpool Health", health.code === 0 ? health.output.trim() : "not available"],
      ["Parent Dataset", dataset],
      ["Space Used By Parent", used],
      ["Space Available", available],
      ["Parent Quota", quota === "0" ? "no" : quota],
      ["Compression", compression],
    ];
  }

  #run(args: readonly string[], why: string): Promise<string> {
    return runProgram(this.#helper, [this.#program, ...args], why);
  }
}

function options(properties: Properties): readonly string[] {
  return Object.entries(properties).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
}
