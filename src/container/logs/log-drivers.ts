/**
 * The log drivers and their options, in Docker's words. Every container but one with `none` has a json-file log beside its record, which `logs` reads; what other
 * drivers do is to bring its lines to a service (see ship-log.ts). Pure.
 * @module
 */
import { parseBytes } from "#core/byte-size.ts";
import type { LogConfig } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import type { ContainerRecord } from "../mod.ts";
import { logTag } from "./log-tag.ts";
import { fluentdTuning } from "./services/fluentd-tuning.ts";

/** Names for `--log-driver`. */
export const logDrivers: readonly string[] = ["fluentd", "journald", "json-file", "local", "none", "syslog"];

const files = ["max-size", "max-file", "compress"];
const extras = ["labels", "labels-regex", "env", "env-regex", "tag"];
const delivery = ["mode", "max-buffer-size"];
const cache = ["cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"];

const optionsOf: Readonly<Record<string, ReadonlySet<string>>> = {
  "json-file": new Set([...files, ...extras, ...delivery]),
  local: new Set([...files, ...delivery]),
  journald: new Set([...extras, ...delivery, ...cache]),
  syslog: new Set([
    ...extras,
    ...delivery,
    ...cache,
    "syslog-address",
    "syslog-facility",
    "syslog-format",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
  ]),
  fluentd: new Set([
    ...extras,
    ...delivery,
    ...cache,
    "fluentd-address",
    "fluentd-async",
    "fluentd-async-connect",
    "fluentd-async-reconnect-interval",
    "fluentd-buffer-limit",
    "fluentd-max-retries",
    "fluentd-read-timeout",
    "fluentd-request-ack",
    "fluentd-retry-wait",
    "fluentd-sub-second-precision",
    "fluentd-write-timeout",
  ]),
};

/** What the monitor writes. */
export interface LogPlan {
  /** 0 = no rotation. */
  readonly maxBytes: number;
  readonly maxFiles: number;
  /** Rotated files become `.gz`. */
  readonly compress: boolean;
}

/** How lines go to a service. */
export interface Delivery {
  /** Bytes that may wait for a service that does not take them; undefined (mode=blocking): the container waits when its log is full of them. */
  readonly dropAboveBytes: number | undefined;
}

const refuse = (message: string): never => {
  throw new EngineError("invalid", message);
};

const isTrue = (key: string, text: string | undefined): boolean => {
  if (text === undefined || text === "") return false;
  if (["1", "t", "T", "true", "TRUE", "True"].includes(text)) return true;
  if (["0", "f", "F", "false", "FALSE", "False"].includes(text)) return false;
  return refuse(`invalid value for log opt '${key}': ${text}`);
};

/** Also of `wherryd --log-driver`. @throws EngineError "invalid" */
export function validateLogConfig({ Type: type, Config: options }: LogConfig): void {
  if (!logDrivers.includes(type)) refuse(`logger: no log driver named '${type}' is registered`);
  if (type === "none") return;
  const known = optionsOf[type] as ReadonlySet<string>; // one for each driver but none
  for (const key of Object.keys(options)) if (!known.has(key)) refuse(`unknown log opt '${key}' for ${type} log driver`);
  planLog({ Type: type, Config: options });
  planDelivery({ Type: type, Config: options });
  if (type === "fluentd") fluentdTuning(options);
  logTag(options["tag"] ?? "", undefined);
  for (const key of ["labels-regex", "env-regex"]) regexOf(key, options[key]);
}

const MEBIBYTE = 1024 * 1024;

/** undefined: nothing is written (`none`, or `cache-disabled` of a driver that ships). @throws EngineError "invalid" */
export function planLog({ Type: type, Config: options }: LogConfig): LogPlan | undefined {
  if (type === "none") return undefined;
  if (type === "json-file") return filePlan(options, "", { maxBytes: 0, maxFiles: 1, compress: false });
  const defaults = { maxBytes: 20 * MEBIBYTE, maxFiles: 5, compress: true };
  return type === "local" ? filePlan(options, "", defaults) : filePlan(options, "cache-", defaults);
}

/** A driver that ships has no other place for its lines than the log: without it, nothing could be read. */
export function isReadable({ Type: type, Config: options }: LogConfig): boolean {
  return type !== "none" && !isTrue("cache-disabled", options["cache-disabled"]);
}

function filePlan(options: LogConfig["Config"], prefix: string, defaults: LogPlan): LogPlan {
  const size = options[`${prefix}max-size`];
  const count = options[`${prefix}max-file`];
  const maxBytes = size === undefined ? defaults.maxBytes : size === "-1" ? 0 : parseBytes(size);
  if (maxBytes === undefined || (size !== undefined && maxBytes === 0 && size !== "-1")) return refuse(`invalid size: '${size}'`);
  const maxFiles = count === undefined ? defaults.maxFiles : Number(count);
  if (!Number.isInteger(maxFiles) || maxFiles < 1 || maxFiles > 10_000) refuse("max-file cannot be less than 1");
  if (maxBytes === 0 && count !== undefined && maxFiles > 1) refuse("max-size must be set when max-file is greater than 1");
  const compress = options[`${prefix}compress`] === undefined ? defaults.compress : isTrue("compress", options[`${prefix}compress`]);
  if (compress && options[`${prefix}compress`] !== undefined && (maxBytes === 0 || maxFiles < 2))
    refuse("compress cannot be true when max-file is less than 2 or max-size is not set");
  return { maxBytes, maxFiles, compress: compress && maxFiles > 1 && maxBytes > 0 };
}

/** @throws EngineError "invalid" */
export function planDelivery({ Type: type, Config: options }: LogConfig): Delivery | undefined {
  const mode = options["mode"] ?? "blocking";
  const buffer = options["max-buffer-size"];
  if (mode !== "blocking" && mode !== "non-blocking") refuse(`logger: logging mode not supported: ${mode}`);
  if (buffer !== undefined && mode !== "non-blocking") refuse("logger: max-buffer-size option is only supported with 'mode=non-blocking'");
  const bytes = buffer === undefined ? MEBIBYTE : parseBytes(buffer);
  if (bytes === undefined) return refuse(`error parsing option max-buffer-size: invalid size: '${buffer}'`);
  // Of json-file and local the monitor writes the lines where they stay: nobody is waited for, and nothing waits in memory.
  if (type === "json-file" || type === "local" || type === "none") return undefined;
  const limit = type === "fluentd" ? fluentdTuning(options).bufferBytes : undefined;
  const room = mode === "blocking" ? limit : Math.min(bytes, limit ?? bytes);
  return { dropAboveBytes: room };
}

/** `labels`, `env` and their patterns: what of the container every line is told with. `tag` too where the driver writes it among them. */
export function extraAttributes(record: Pick<ContainerRecord, "config">, options: LogConfig["Config"]): Record<string, string> {
  const attributes: Record<string, string> = {};
  const take = (name: "labels" | "env", values: Readonly<Record<string, string>>) => {
    const names = (options[name] ?? "").split(",");
    const pattern = regexOf(`${name}-regex`, options[`${name}-regex`]);
    for (const [key, value] of Object.entries(values)) if (names.includes(key) || pattern?.test(key) === true) attributes[key] = value;
  };
  take("labels", record.config.Labels ?? {});
  take(
    "env",
    Object.fromEntries((record.config.Env ?? []).map((entry) => entry.split(/=(.*)/s) as [string, string]).filter(([, value]) => value !== undefined)),
  );
  return attributes;
}

function regexOf(key: string, text: string | undefined): RegExp | undefined {
  if (text === undefined || text === "") return undefined;
  try {
    return new RegExp(text, "u");
  } catch (error) {
    return refuse(`invalid value for log opt '${key}': ${(error as Error).message}`);
  }
}

const MAX_ATTRS = 8 * 1024;

/** What the monitor puts into every line: `,"attrs":{…}`, or nothing. @throws EngineError "invalid" when it is too much */
export function attrsJson(record: Pick<ContainerRecord, "id" | "name" | "config" | "imageId" | "path" | "args">, { Config: options }: LogConfig): string {
  const tag = options["tag"];
  const attributes = { ...extraAttributes(record, options), ...(tag === undefined || tag === "" ? {} : { tag: logTag(tag, record) }) };
  if (Object.keys(attributes).length === 0) return "";
  const text = `,"attrs":${JSON.stringify(attributes)}`;
  if (Buffer.byteLength(text) > MAX_ATTRS) refuse("the labels and environment variables that the log options name are too long: at most 8 KiB");
  return text;
}
