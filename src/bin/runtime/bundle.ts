/** A bundle's config.json, checked as far as the planner does not, and what the planner needs to know of the host's files. @module */
import { readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { EngineError, errnoOf } from "#core/errors.ts";
import { isObject } from "#core/json.ts";
import { capabilityNames } from "#linux/capabilities.ts";
import type { OciProcess, OciSpec } from "#core/runtime-spec.ts";
import { checkSpecShape } from "./spec-shape.ts";

function readJson(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path === "-" ? 0 : path, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") throw new EngineError("not-found", `JSON specification file ${path} not found`);
    throw error;
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new EngineError("invalid", `${path}: ${(error as Error).message}`);
  }
}

export { readJson };

/** Tells the caller of the runtime, who need not be our own process: a line with its end. */
export type Warn = (line: string) => void;

const require = (holds: boolean, what: string): void => {
  if (!holds) throw new EngineError("invalid", `config.json: ${what}`);
};

/** The bundle's spec with absolute paths; `warn` is told what is left out of it. EngineError "invalid" or "unsupported" tells what in it cannot be. */
export function readBundle(bundle: string, warn: Warn): OciSpec {
  const value = readJson(join(bundle, "config.json"));
  if (!isObject(value)) throw new EngineError("invalid", "config.json: not an object");
  const spec = checkSpecShape(value);
  require(typeof spec.ociVersion === "string", "ociVersion is missing");
  const [, major] = /^(\d+)\.\d+\.\d+/.exec(spec.ociVersion) ?? [];
  require(major === "1", `ociVersion ${spec.ociVersion} is not a version 1 of the specification`);
  require(isObject(spec.root) && typeof spec.root.path === "string", "root.path is missing");
  require(isObject(spec.process), "process is missing");
  require(isObject(spec.linux), "linux is missing");
  require(!Object.keys(spec.annotations ?? {}).includes(""), "an annotation's key is empty");
  checkProcess(spec.process);
  const root = resolve(bundle, spec.root.path);
  requireDirectory(root);
  const mounts = (spec.mounts ?? []).map((mount) => {
    require(typeof mount.destination === "string", "a mount has no destination");
    const bind = mount.type === "bind" || mount.options?.some((option) => option === "bind" || option === "rbind") === true;
    return {
      ...mount,
      destination: resolve("/", mount.destination),
      ...(bind && mount.source !== undefined ? { source: resolve(bundle, mount.source) } : {}),
    };
  });
  return {
    ...spec,
    process: possibleAmbient(knownCapabilities(spec.process, warn)),
    root: { ...spec.root, path: root },
    mounts,
    linux: { ...spec.linux, namespaces: spec.linux?.namespaces ?? [] },
  };
}

const capabilitySets = ["bounding", "effective", "inheritable", "permitted", "ambient"] as const;

/** A capability that does not exist is left out and told (config.md "Linux Process"); a set that does not exist is a property that is ignored ("Extensibility"). */
export function knownCapabilities(process: OciProcess, warn: Warn): OciProcess {
  const sets = capabilitySets.map((set) => [set, process.capabilities?.[set] ?? []] as const);
  const unknown = new Set(sets.flatMap(([, names]) => names.filter((name) => !capabilityNames.includes(name))));
  if (unknown.size === 0) return process;
  warn(`warning: unknown capabilities are left out: ${[...unknown].join(" ")}\n`);
  return { ...process, capabilities: Object.fromEntries(sets.map(([set, names]) => [set, names.filter((name) => !unknown.has(name))])) };
}

/** The kernel raises only what is permitted and inheritable; the rest is left out, as runc does (its own `runc spec` asks for more). */
export function possibleAmbient(process: OciProcess): OciProcess {
  const { capabilities } = process;
  if (capabilities?.ambient === undefined || capabilities.ambient === null) return process;
  const ambient = capabilities.ambient.filter((name) => capabilities.inheritable?.includes(name) && capabilities.permitted?.includes(name));
  return { ...process, capabilities: { ...capabilities, ambient } };
}

export function checkProcess(process: OciProcess): void {
  require(Array.isArray(process.args) && process.args.length > 0 && process.args.every((arg) => typeof arg === "string"), "args must not be empty");
  require(typeof process.cwd === "string" && process.cwd.startsWith("/"), "Cwd must be an absolute path");
  require(isObject(process.user), "process.user is missing");
  const limits = (process.rlimits ?? []).map(({ type }) => type);
  require(new Set(limits).size === limits.length, `rlimits: a type twice: ${limits.join(" ")}`);
}

function requireDirectory(root: string): void {
  try {
    if (statSync(root).isDirectory()) return;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    throw new EngineError("invalid", errnoOf(error) === "ENOENT" ? `rootfs (${root}) does not exist` : `rootfs: ${(error as Error).message}`);
  }
  throw new EngineError("invalid", `rootfs (${root}) is not a directory`);
}

/** Destinations of binds whose source is not a directory. EngineError "invalid" when a source is missing. */
export function fileBinds(spec: OciSpec): Set<string> {
  const files = new Set<string>();
  for (const { destination, source, type, options } of spec.mounts ?? []) {
    if (type !== "bind" && options?.some((option) => option === "bind" || option === "rbind") !== true) continue;
    if (source === undefined) continue;
    try {
      if (!statSync(source).isDirectory()) files.add(destination);
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
      throw new EngineError("invalid", `error mounting "${source}" to rootfs at "${destination}": stat ${source}: no such file or directory`);
    }
  }
  return files;
}
