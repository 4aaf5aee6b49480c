/** Readers for the portable half of a container's configuration. @module */
import type { ContainerConfig, HealthConfig } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import { type Field, flag, int, list, map, object, optional, orElse, orNull, setOf, strings, text } from "./fields.ts";

/** `[]` is "not set" for Docker's Cmd and Entrypoint; only docker's own `[""]` clears an image's entrypoint. */
const stringsOrNull: Field<string[] | null> = orNull(strings);

const nonEmpty: Field<string | undefined> = (value, path) => text(value, path) || undefined;

const health: Field<HealthConfig> = object<HealthConfig>({
  Test: optional(list(text)),
  Interval: optional(int),
  Timeout: optional(int),
  Retries: optional(int),
  StartPeriod: optional(int),
  StartInterval: optional(int),
});

const portName: Field<Record<string, Record<string, never>>> = (value, path) => {
  const ports = setOf(value, path);
  return Object.fromEntries(Object.entries(ports).map(([port, empty]) => [normalPort(port, path), empty]));
};

/** `80` → `80/tcp`; throws EngineError invalid with Docker's text. */
export function normalPort(port: string, path: string): string {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/(tcp|udp|sctp))?$/i.exec(port);
  const inRange = [match?.[1], match?.[2]].every((n) => n === undefined || (Number(n) >= 0 && Number(n) <= 65535));
  if (!match || !inRange) throw new EngineError("invalid", `invalid request: ${path}: invalid port specification: "${port.slice(0, 60)}"`);
  return `${match[1]}${match[2] === undefined ? "" : `-${match[2]}`}/${(match[3] ?? "tcp").toLowerCase()}`;
}

/** Reads Docker's `Config`; missing fields get Docker's defaults. */
export const containerConfig: Field<ContainerConfig> = object<ContainerConfig>({
  Hostname: text,
  Domainname: text,
  User: text,
  AttachStdin: flag,
  AttachStdout: flag,
  AttachStderr: flag,
  ExposedPorts: optional(portName),
  Tty: flag,
  OpenStdin: flag,
  StdinOnce: flag,
  Env: orNull(list(text)),
  Cmd: stringsOrNull,
  Healthcheck: optional(health),
  ArgsEscaped: optional((v, p) => flag(v, p) || undefined),
  Image: text,
  Volumes: orNull(setOf),
  WorkingDir: text,
  Entrypoint: stringsOrNull,
  NetworkDisabled: optional((v, p) => flag(v, p) || undefined),
  MacAddress: nonEmpty,
  OnBuild: orNull(list(text)),
  Labels: orElse(map(text), {}),
  StopSignal: nonEmpty,
  StopTimeout: optional(int),
  Shell: optional(strings),
});
