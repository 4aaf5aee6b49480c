/**
 * The cgroup driver `systemd`: containers are scopes in slices, made by systemd over D-Bus, so that the host's own accounting, `systemd-cgls` and slices' limits know
 * them. Below the scope everything is ours (Delegate=yes): limits that systemd has no property for, freezing, killing and counting go through the files as on plain v2.
 * @module
 */
import { spawn } from "node:child_process";
import { basename } from "node:path";
import { EngineError, isEngineError } from "#core/errors.ts";
import type { OciResources } from "#core/runtime-spec.ts";
import type { CgroupManager, CgroupPaths, CgroupPlan } from "../mod.ts";
import { ServiceManager } from "./service-manager.ts";
import { type Properties, propertiesOf, scopeProperties, sliceName, slicePath } from "./units.ts";

export interface SystemdOptions {
  /** For containers without a parent of their own. */
  readonly slice: string;
  /** Scopes are named `<prefix>-<id>.scope`. */
  readonly prefix: string;
  readonly helperPath: string;
}

/** Limits of a plan, which are its writes. */
function limitsOf({ create }: CgroupPlan): Properties {
  const decoder = new TextDecoder();
  return propertiesOf(create.flatMap((step) => (step.op === "write" ? [{ file: basename(step.path), value: decoder.decode(step.data) }] : [])));
}

/** `openFiles` opens the v2 manager whose parent is this path. */
export function openSystemd(openFiles: (parent: string) => CgroupManager, { slice: home, prefix, helperPath }: SystemdOptions): CgroupManager {
  const files = openFiles(slicePath(home));
  const systemd = new ServiceManager();
  const sliceOf = (parent: string) => (parent === "" ? home : sliceName(parent.replace(/^\//, "")));
  const scopeOf = (name: string) => (name.endsWith(".scope") ? name : `${prefix}-${name}.scope`);

  const plan = (parent: string, name: string, resources: OciResources, slot: number): CgroupPlan => {
    const [slice, scope] = [sliceOf(parent), scopeOf(name)];
    const made = files.plan(slicePath(slice), scope, resources, slot);
    const lonely = made.create.filter((step) => resources.pids?.limit === 1 && step.op === "write" && step.path.endsWith("/pids.max"));
    const early = { ...made, create: made.create.filter((step) => !lonely.includes(step)) };
    const unit = { name: scope, slice, properties: limitsOf(early), late: limitsOf({ ...made, create: lonely }) };
    return { ...early, join: [...made.join, ...lonely], paths: { ...made.paths, unit: scope }, unit };
  };

  return {
    ...files,
    driver: "systemd",
    plan,

    async prepare(parent = "") {
      const slice = sliceOf(parent);
      // system.slice, and one with a unit file, are there or start by themselves.
      await systemd.start(slice, [], { existing: "accept" });
      await files.prepare(slicePath(slice));
    },

    async hold({ unit }) {
      if (unit === undefined) throw new EngineError("internal", "a plan of another cgroup driver");
      const holder = spawn(helperPath, ["hold"], { argv0: "wherry-helper", stdio: ["pipe", "ignore", "ignore"] });
      const ended = new Promise<Error | undefined>((resolve) => {
        holder.once("error", resolve);
        holder.once("exit", () => resolve(undefined));
      });
      const release = async () => {
        holder.stdin.end();
        await ended;
        // The container may have ended already.
        await systemd.set(unit.name, unit.late).catch((error: unknown) => {
          if (!isEngineError(error, "not-found")) throw error;
        });
      };
      holder.stdin.on("error", () => undefined); // it was killed: nothing is held any more
      if (holder.pid === undefined) throw new EngineError("kernel", `cannot start ${helperPath}: ${(await ended)?.message}`);
      try {
        await systemd.start(unit.name, scopeProperties(unit, holder.pid), { existing: "refuse" });
      } catch (error) {
        await release();
        throw error;
      }
      return { release };
    },

    async update(paths: CgroupPaths, resources: OciResources) {
      const writes = limitsOf(files.plan(slicePath(home), "update", resources, 0));
      if (paths.unit !== undefined) await systemd.set(paths.unit, writes);
      await files.update(paths, resources);
    },

    /** The directory first, which fails while somebody is inside: stopping the scope would end them. */
    async remove(paths) {
      await files.remove(paths);
      if (paths.unit !== undefined) await systemd.stop(paths.unit);
    },

    /** Scopes of this engine only: a slice holds the host's services as well. */
    async orphans(known) {
      const own = new RegExp(`^${prefix}-([0-9a-f]{64})\\.scope$`);
      return (await files.orphans(new Set())).flatMap((paths) => {
        const unit = basename(paths.dirs[""] ?? "");
        const id = own.exec(unit)?.[1];
        return id === undefined || known.has(id) ? [] : [{ ...paths, unit }];
      });
    },

    async close() {
      systemd.close();
    },
  };
}
