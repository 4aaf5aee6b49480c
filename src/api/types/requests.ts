/** The smaller request bodies: exec, network, volume. @module */
import type { ExecRecord } from "#container/mod.ts";
import type { EndpointConfig } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import { type Field, flag, int, list, map, object, optional, orElse, orNull, strings, text } from "./fields.ts";
import { endpointConfig } from "./host-config.ts";

/** Docker's exec configuration: stored as it came. */
export type ExecCreateBody = ExecRecord["config"];

/** `POST /containers/{id}/exec`. */
export function parseExecCreate(body: unknown): ExecCreateBody & { ConsoleSize?: number[] } {
  const parsed = object<ExecCreateBody & { ConsoleSize?: number[] }>({
    AttachStdin: flag,
    AttachStdout: flag,
    AttachStderr: flag,
    DetachKeys: text,
    Tty: flag,
    Cmd: orElse(strings, []),
    Env: orNull(list(text)),
    WorkingDir: text,
    User: text,
    Privileged: flag,
    ConsoleSize: optional(list(int)),
  })(body, "");
  if (parsed.Cmd.length === 0) throw new EngineError("invalid", "no exec command specified");
  return parsed;
}

/** `POST /exec/{id}/start`. */
export const parseExecStart: Field<{ Detach: boolean; Tty: boolean; ConsoleSize?: number[] }> = object<{
  Detach: boolean;
  Tty: boolean;
  ConsoleSize?: number[];
}>({
  Detach: flag,
  Tty: flag,
  ConsoleSize: optional(list(int)),
});

export interface IpamPool {
  Subnet?: string;
  Gateway?: string;
  IPRange?: string;
  AuxiliaryAddresses?: Record<string, string>;
}

export interface NetworkCreateBody {
  Name: string;
  Driver: string;
  EnableIPv4?: boolean;
  EnableIPv6: boolean;
  IPAM: { Driver: string; Options: Record<string, string> | null; Config: IpamPool[] };
  Internal: boolean;
  Attachable: boolean;
  Ingress: boolean;
  Options: Record<string, string>;
  Labels: Record<string, string>;
}

const pool = object<IpamPool>({
  Subnet: optional((v, p) => text(v, p) || undefined),
  Gateway: optional((v, p) => text(v, p) || undefined),
  IPRange: optional((v, p) => text(v, p) || undefined),
  AuxiliaryAddresses: (v, p) => optional(map(text))(v, p),
});

/** `POST /networks/create`. */
export function parseNetworkCreate(body: unknown): NetworkCreateBody {
  const parsed = object<NetworkCreateBody>({
    Name: text,
    Driver: (v, p) => text(v, p) || "bridge",
    EnableIPv4: optional(flag),
    EnableIPv6: flag,
    IPAM: (v, p) =>
      object<NetworkCreateBody["IPAM"]>({ Driver: (d, dp) => text(d, dp) || "default", Options: orNull(map(text)), Config: orElse(list(pool), []) })(v, p),
    Internal: flag,
    Attachable: flag,
    Ingress: flag,
    Options: orElse(map(text), {}),
    Labels: orElse(map(text), {}),
  })(body, "");
  if (parsed.Name === "") throw new EngineError("invalid", "network name required");
  return parsed;
}

/** `POST /networks/{id}/connect`. */
export const parseNetworkConnect: Field<{ Container: string; EndpointConfig?: EndpointConfig }> = object<{
  Container: string;
  EndpointConfig?: EndpointConfig;
}>({
  Container: text,
  EndpointConfig: optional(endpointConfig),
});

/** `POST /networks/{id}/disconnect`. */
export const parseNetworkDisconnect: Field<{ Container: string; Force: boolean }> = object<{ Container: string; Force: boolean }>({
  Container: text,
  Force: flag,
});

/** `POST /volumes/create`. */
export const parseVolumeCreate: Field<{ Name: string; Driver: string; DriverOpts: Record<string, string>; Labels: Record<string, string> }> = object<{
  Name: string;
  Driver: string;
  DriverOpts: Record<string, string>;
  Labels: Record<string, string>;
}>({
  Name: text,
  Driver: (v, p) => text(v, p) || "local",
  DriverOpts: orElse(map(text), {}),
  Labels: orElse(map(text), {}),
});
