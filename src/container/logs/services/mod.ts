/**
 * The services that log drivers bring a container's lines to. Each is one {@link LogService}; what is common to them (waiting, trying again, where delivery goes on
 * after a restart) is in ship-log.ts.
 * @module
 */
import type { Helper } from "#linux/helper.ts";
import type { ContainerRecord, LogEntry } from "../../mod.ts";
import { extraAttributes } from "../log-drivers.ts";
import { logTag } from "../log-tag.ts";
import { Fluentd } from "./fluentd.ts";
import { Journald } from "./journald.ts";
import { Syslog } from "./syslog.ts";

/** One container's connection to a service. It connects when it is first used, and anew after a failure. */
export interface LogService {
  /** How failures are answered; undefined: soon again, and for ever. */
  readonly retry?: { readonly firstMs: number; readonly times: number };
  /** Refuses now what would only fail later. @throws Error in Go's words for a failed dial */
  check(): Promise<void>;
  /** Resolves when the service has taken them, in this order; rejects when it has perhaps not taken all of them. */
  send(entries: readonly LogEntry[], signal: AbortSignal): Promise<void>;
  close(): void;
}

/** What a line says of its container. */
export interface LogSource {
  readonly id: string;
  readonly name: string;
  readonly imageName: string;
  readonly tag: string;
  readonly extra: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, string>>;
}

/** undefined for drivers that bring nothing anywhere. @throws EngineError "invalid" */
export function openLogService(record: ContainerRecord, helper: Pick<Helper, "call">): LogService | undefined {
  const { Type: type, Config: options } = record.hostConfig.LogConfig;
  const source: LogSource = {
    id: record.id,
    name: record.name,
    imageName: record.config.Image,
    tag: logTag(options["tag"] ?? "", record),
    extra: extraAttributes(record, options),
    options,
  };
  if (type === "syslog") return new Syslog(source, helper);
  if (type === "journald") return new Journald(source, helper);
  return type === "fluentd" ? new Fluentd(source) : undefined;
}
