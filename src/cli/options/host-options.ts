/** The flags whose values are little languages of their own: devices, restart policy, security options, volumes, logging, health. @module */
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import type { DeviceMapping, HealthConfig, LogConfig, RestartPolicy } from "#core/container-config.ts";
import { type FlagValues, parseInt64 } from "../flags.ts";
import { explainFileError } from "./file-error.ts";
import { toMap } from "./validate.ts";

const deviceMode = /^(?!.*(.).*\1)[rwm]{1,3}$/;

/** `/dev/x[:/dev/y][:rwm]`. */
export function parseDevice(text: string): DeviceMapping {
  const parts = text.split(":");
  const [source = "", second = "", third] = parts;
  if (parts.length > 3 || source === "") throw new Error(`bad format for path: ${text}`);
  if (third !== undefined && !deviceMode.test(third)) throw new Error(`bad mode specified: ${third}`);
  const secondIsMode = parts.length === 2 && deviceMode.test(second);
  const target = secondIsMode || second === "" ? source : second;
  if (!target.startsWith("/")) throw new Error(`${target} is not an absolute path`);
  return { PathOnHost: source, PathInContainer: target, CgroupPermissions: third ?? (secondIsMode ? second : "rwm") };
}

/** `no|always|unless-stopped|on-failure[:N]`; the daemon knows which exist. */
export function parseRestart(text: string): RestartPolicy {
  if (text === "") return { Name: "", MaximumRetryCount: 0 };
  const colon = text.indexOf(":");
  const name = colon < 0 ? text : text.slice(0, colon);
  const count = colon < 0 ? "" : text.slice(colon + 1);
  if (colon === 0) throw new Error("invalid restart policy format: no policy provided before colon");
  let retries = 0;
  if (count !== "") {
    try {
      retries = parseInt64(count);
    } catch {
      throw new Error("invalid restart policy format: maximum retry count must be an integer");
    }
  }
  return { Name: name as RestartPolicy["Name"], MaximumRetryCount: retries }; // the daemon refuses other names
}

/** `--security-opt`: a seccomp profile is read here, because the file is the caller's. `systempaths=unconfined` clears masked and read-only paths. */
export async function readSecurityOptions(options: readonly string[], cwd: string): Promise<{ readonly options: string[]; readonly unmasked: boolean }> {
  const result: string[] = [];
  let unmasked = false;
  for (const option of options) {
    if (option === "systempaths=unconfined") {
      unmasked = true;
      continue;
    }
    const cut = option.includes("=") ? option.indexOf("=") : option.indexOf(":");
    const key = cut < 0 ? option : option.slice(0, cut);
    const value = cut < 0 ? "" : option.slice(cut + 1);
    if (value === "" && key !== "no-new-privileges") throw new Error(`Invalid --security-opt: ${JSON.stringify(option)}`);
    result.push(key === "seccomp" && value !== "unconfined" && value !== "builtin" ? `seccomp=${await readProfile(value, cwd)}` : option);
  }
  return { options: result, unmasked };
}

async function readProfile(path: string, cwd: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(resolve(cwd, path), "utf8");
  } catch (error) {
    throw new Error(`opening seccomp profile (${path}) failed: ${explainFileError(error, "open", path).message}`);
  }
  try {
    return JSON.stringify(JSON.parse(text));
  } catch (error) {
    throw new Error(`compacting json for seccomp profile (${path}) failed: ${(error as Error).message}`);
  }
}

/** `-v`: a lone path is an anonymous volume; the rest are binds, whose relative source is the caller's. */
export function parseVolumes(specs: readonly string[], cwd: string): { readonly binds: string[]; readonly volumes: Record<string, Record<string, never>> } {
  const binds: string[] = [];
  const volumes: Record<string, Record<string, never>> = {};
  for (const spec of new Set(specs)) {
    const colon = spec.indexOf(":");
    if (colon < 0) {
      volumes[spec] = {};
      continue;
    }
    if (spec.split(":").includes("")) throw new Error(`invalid spec: ${spec}: empty section between colons`);
    const source = spec.slice(0, colon);
    binds.push(/^\.\.?(\/|$)/.test(source) ? resolve(cwd, source) + spec.slice(colon) : spec);
  }
  return { binds, volumes };
}

export function parseTmpfs(specs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    specs.map((spec) => {
      const colon = spec.indexOf(":");
      return colon < 0 ? [spec, ""] : [spec.slice(0, colon), spec.slice(colon + 1)];
    }),
  );
}

export function parseLogging(driver: string, options: readonly string[]): LogConfig {
  if (driver === "none" && options.length > 0) throw new Error(`invalid logging opts for driver ${driver}`);
  return { Type: driver, Config: toMap(options) };
}

export function parseStorageOptions(options: readonly string[]): Record<string, string> {
  if (options.some((option) => !option.includes("="))) throw new Error("invalid storage option");
  return toMap(options);
}

async function certificatesIn(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw explainFileError(error, "open", path);
  }
}

const healthFlags = ["interval", "timeout", "start-period", "start-interval", "retries"] as const;

/** `--health-*`; undefined when none is given. */
export async function parseHealth(flags: FlagValues, cwd: string): Promise<HealthConfig | undefined> {
  const caFile = flags.text("health-cacert");
  if (caFile !== "" && !flags.text("health-http").startsWith("https:")) throw new Error("--health-cacert is for --health-http https://…");
  const tests = [
    ["CMD-SHELL", flags.text("health-cmd")],
    ["HTTP", flags.text("health-http"), ...(caFile === "" ? [] : [await certificatesIn(resolve(cwd, caFile))])],
    ["TCP", flags.text("health-tcp")],
  ].filter(([, value]) => value !== "");
  if (tests.length > 1) throw new Error("--health-cmd, --health-http and --health-tcp exclude each other");
  const [test] = tests;
  const number = (name: (typeof healthFlags)[number]) => flags.number(`health-${name}`);
  const given = test !== undefined || healthFlags.some((name) => number(name) !== 0);
  if (flags.on("no-healthcheck")) {
    if (given) throw new Error("--no-healthcheck conflicts with --health-* options");
    return { Test: ["NONE"] };
  }
  if (!given) return undefined;
  for (const name of healthFlags) if (number(name) < 0) throw new Error(`--health-${name} cannot be negative`);
  const set = (field: keyof HealthConfig, name: (typeof healthFlags)[number]) => (number(name) === 0 ? {} : { [field]: number(name) });
  return {
    ...(test === undefined ? {} : { Test: test }),
    ...set("Interval", "interval"),
    ...set("Timeout", "timeout"),
    ...set("StartPeriod", "start-period"),
    ...set("StartInterval", "start-interval"),
    ...set("Retries", "retries"),
  };
}

/** `--cap-add`, `--cap-drop`: full names, sorted. */
export function parseCapabilities(names: readonly string[]): string[] {
  const full = names.map((name) => name.trim().toUpperCase()).map((name) => (name === "ALL" || name.startsWith("CAP_") ? name : `CAP_${name}`));
  return [...new Set(full)].sort();
}
