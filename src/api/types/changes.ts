/**
 * `--change` of commit and import: Dockerfile instructions that only touch the configuration.
 * @module
 * @see https://docs.docker.com/reference/cli/docker/container/commit/#change
 */
import type { ContainerConfig, HealthConfig } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import { normalPort } from "./container-config.ts";

type Config = Partial<ContainerConfig>;

const bad = (line: string, why: string): EngineError => new EngineError("invalid", `invalid change "${line.slice(0, 80)}": ${why}`);

/** The configuration with the instructions applied, in order; `config` is not changed. Throws EngineError invalid. */
export function applyChanges(config: Config, changes: readonly string[]): Config {
  // One parameter may hold several lines, as a Dockerfile does.
  const lines = changes.flatMap((change) => change.replace(/\\\r?\n/g, " ").split(/\r?\n/)).filter((line) => line.trim() !== "");
  return lines.reduce(applyLine, { ...config });
}

function applyLine(config: Config, line: string): Config {
  const match = /^\s*([A-Za-z]+)\s+([\s\S]*\S)\s*$/.exec(line);
  if (!match) throw bad(line, "expected an instruction and its argument");
  const [, word, rest] = match as unknown as [string, string, string]; // both groups took part
  switch (word.toUpperCase()) {
    case "CMD":
      return { ...config, Cmd: command(rest, config.Shell) };
    case "ENTRYPOINT":
      return { ...config, Entrypoint: command(rest, config.Shell) };
    case "ENV":
      return {
        ...config,
        Env: mergeEnv(
          config.Env ?? [],
          pairs(line, rest, true).map(([k, v]) => `${k}=${v}`),
        ),
      };
    case "LABEL":
      return { ...config, Labels: { ...config.Labels, ...Object.fromEntries(pairs(line, rest, false)) } };
    case "EXPOSE":
      return { ...config, ExposedPorts: { ...config.ExposedPorts, ...Object.fromEntries(words(line, rest).map((port) => [normalPort(port, "EXPOSE"), {}])) } };
    case "USER":
      return { ...config, User: single(line, rest) };
    case "WORKDIR":
      return { ...config, WorkingDir: joinPath(config.WorkingDir ?? "", single(line, rest)) };
    case "VOLUME":
      return { ...config, Volumes: { ...config.Volumes, ...Object.fromEntries((jsonList(rest) ?? words(line, rest)).map((path) => [path, {}])) } };
    case "STOPSIGNAL":
      return { ...config, StopSignal: single(line, rest) };
    case "ONBUILD":
      return { ...config, OnBuild: [...(config.OnBuild ?? []), rest] };
    case "SHELL": {
      const shell = jsonList(rest);
      if (!shell) throw bad(line, "SHELL needs the JSON form");
      return { ...config, Shell: shell };
    }
    case "HEALTHCHECK":
      return { ...config, Healthcheck: healthcheck(line, rest, config.Shell) };
    default:
      throw new EngineError("invalid", `${word} is not a valid change command`);
  }
}

/** A JSON list of strings, or undefined when it is none. */
function jsonList(text: string): string[] | undefined {
  if (!text.startsWith("[")) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) && value.every((v): v is string => typeof v === "string") ? value : undefined;
  } catch {
    return undefined; // `[` may begin a shell command, as in a Dockerfile
  }
}

function command(text: string, shell: readonly string[] | undefined): string[] {
  return jsonList(text) ?? [...(shell ?? ["/bin/sh", "-c"]), text];
}

/** Splits like a Dockerfile: blanks separate, quotes and backslashes protect. */
function words(line: string, text: string): string[] {
  const result: string[] = [];
  let current: string | undefined;
  let quote = "";
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!;
    if (quote === "" && /\s/.test(c)) {
      if (current !== undefined) result.push(current);
      current = undefined;
    } else if (c === "\\" && quote !== "'" && i + 1 < text.length) {
      current = (current ?? "") + text[++i];
    } else if (quote === "" && (c === '"' || c === "'")) {
      quote = c;
      current ??= "";
    } else if (c === quote) {
      quote = "";
    } else {
      current = (current ?? "") + c;
    }
  }
  if (quote !== "") throw bad(line, "unclosed quote");
  if (current !== undefined) result.push(current);
  return result;
}

function pairs(line: string, text: string, legacy: boolean): [string, string][] {
  const list = words(line, text);
  if (legacy && !list[0]?.includes("=")) {
    const space = /\s+/.exec(text);
    if (!space) throw bad(line, "expected NAME=value");
    return [[text.slice(0, space.index), text.slice(space.index + space[0].length)]];
  }
  return list.map((word) => {
    const at = word.indexOf("=");
    if (at < 1) throw bad(line, `expected NAME=value, got "${word.slice(0, 60)}"`);
    return [word.slice(0, at), word.slice(at + 1)];
  });
}

function single(line: string, text: string): string {
  const list = words(line, text);
  if (list.length !== 1) throw bad(line, "expected one argument");
  return list[0]!;
}

function joinPath(base: string, path: string): string {
  return path.startsWith("/") || base === "" ? path : `${base.replace(/\/$/, "")}/${path}`;
}

/** `additions` replace the variables of the same name. */
export function mergeEnv(base: readonly string[], additions: readonly string[]): string[] {
  const nameOf = (pair: string): string => pair.split("=", 1)[0]!;
  const result = [...base];
  for (const pair of additions) {
    const at = result.findIndex((one) => nameOf(one) === nameOf(pair));
    if (at < 0) result.push(pair);
    else result[at] = pair;
  }
  return result;
}

const units: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };

function durationNs(line: string, text: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)];
  if (parts.length === 0 || parts.map((p) => p[0]).join("") !== text) throw bad(line, `"${text}" is not a duration`);
  return Math.round(parts.reduce((sum, [, n, unit]) => sum + Number(n) * units[unit!]!, 0));
}

function healthcheck(line: string, text: string, shell: readonly string[] | undefined): HealthConfig {
  if (/^none$/i.test(text)) return { Test: ["NONE"] };
  const config: HealthConfig = {};
  let rest = text;
  for (let option = /^--([a-z-]+)=(\S+)\s+/.exec(rest); option; option = /^--([a-z-]+)=(\S+)\s+/.exec(rest)) {
    const [whole, name, value] = option as unknown as [string, string, string]; // both groups took part
    rest = rest.slice(whole.length);
    if (name === "interval") config.Interval = durationNs(line, value);
    else if (name === "timeout") config.Timeout = durationNs(line, value);
    else if (name === "start-period") config.StartPeriod = durationNs(line, value);
    else if (name === "start-interval") config.StartInterval = durationNs(line, value);
    else if (name === "retries" && /^\d{1,6}$/.test(value)) config.Retries = Number(value);
    else throw bad(line, `unknown option --${name}`);
  }
  const test = /^CMD\s+([\s\S]+)$/i.exec(rest)?.[1];
  if (test === undefined) throw bad(line, "expected NONE or CMD");
  const list = jsonList(test);
  config.Test = list ? ["CMD", ...list] : shell ? ["CMD", ...shell, test] : ["CMD-SHELL", test];
  return config;
}

/** What commit stores: the request's configuration, and whatever it leaves open from the container's. */
export function mergeConfig(user: Config, base: ContainerConfig): Partial<ContainerConfig> {
  const given = Object.fromEntries(
    Object.entries(user).filter(([, v]) => v !== undefined && v !== null && v !== "" && v !== false && !(Array.isArray(v) && v.length === 0)),
  ) as Config; // still a part of Config
  const clearsCmd = given.Entrypoint !== undefined && given.Cmd === undefined;
  return {
    ...base,
    ...(clearsCmd ? { Cmd: null } : {}),
    ...given,
    Env: mergeEnv(base.Env ?? [], given.Env ?? []),
    Labels: { ...base.Labels, ...given.Labels },
    ...(base.ExposedPorts || given.ExposedPorts ? { ExposedPorts: { ...base.ExposedPorts, ...given.ExposedPorts } } : {}),
    Volumes: base.Volumes || given.Volumes ? { ...base.Volumes, ...given.Volumes } : null,
  };
}
