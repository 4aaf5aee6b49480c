/** `-p [ip:][hostPort:]containerPort[/proto]` with ranges. @module @see https://github.com/docker/go-connections nat/ */
import { isIP } from "node:net";
import type { PortBinding } from "#core/container-config.ts";
import { parseUint } from "../flags.ts";
import { splitFields } from "./csv.ts";

export interface Ports {
  /** "80/tcp". */
  readonly exposed: Record<string, Record<string, never>>;
  readonly bindings: Record<string, PortBinding[]>;
}

const protocols = ["tcp", "udp", "sctp"];

function range(text: string): readonly [number, number] {
  if (text === "") throw new Error("empty string specified for ports");
  const [first, last] = text.includes("-") ? (text.split("-") as [string, string]) : [text, text];
  const start = parseUint(first, 65535);
  const end = parseUint(last ?? first, 65535);
  if (end < start) throw new Error(`invalid range specified for port: ${text}`);
  return [start, end];
}

function orSay<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch {
    throw new Error(what);
  }
}

function split(spec: string): { readonly ip: string; readonly host: string; readonly container: string; readonly protocol: string } {
  const slash = spec.indexOf("/");
  const protocol = slash < 0 ? "tcp" : spec.slice(slash + 1) || "tcp";
  const parts = (slash < 0 ? spec : spec.slice(0, slash)).split(":");
  const container = parts.pop()!; // split never gives an empty list
  const host = parts.pop() ?? "";
  return { ip: parts.join(":").replace(/^\[(.*)\]$/, "$1"), host, container, protocol };
}

/** Adds what one `-p` says. Throws Error with docker's reason. */
function addPort(spec: string, ports: Ports): void {
  const { ip, host, container, protocol } = split(spec);
  if (ip !== "" && isIP(ip) === 0) throw new Error(`invalid IP address: ${ip}`);
  if (container === "") throw new Error(`no port specified: ${spec}<empty>`);
  const [start, end] = orSay(`invalid containerPort: ${container}`, () => range(container));
  let hostStart = 0;
  let hostEnd = 0;
  if (host !== "") [hostStart, hostEnd] = orSay(`invalid hostPort: ${host}`, () => range(host));
  // One container port may take any free host port of a range.
  if (host !== "" && end - start !== hostEnd - hostStart && end !== start)
    throw new Error(`invalid ranges specified for container and host Ports: ${container} and ${host}`);
  const name = protocol.toLowerCase();
  if (!protocols.includes(name)) throw new Error(`invalid proto: ${protocol}`);
  for (let port = start; port <= end; port++) {
    const key = `${port}/${name}`;
    let hostPort = host === "" ? "" : String(hostStart + port - start);
    if (start === end && hostStart !== hostEnd) hostPort = `${hostPort}-${hostEnd}`;
    ports.exposed[key] = {};
    (ports.bindings[key] ??= []).push({ HostIp: ip, HostPort: hostPort });
  }
}

/** The long syntax `published=8080,target=80,protocol=tcp` as a short one. */
function standardNotation(spec: string): string {
  if (!spec.includes("=")) return spec;
  const fields = new Map<string, string>();
  for (const item of splitFields(spec)) {
    const equals = item.indexOf("=");
    if (equals < 0) throw new Error(`invalid publish opts format (should be name=value but got '${item}')`);
    fields.set(item.slice(0, equals), item.slice(equals + 1));
  }
  return `${fields.get("published") ?? ""}:${fields.get("target") ?? ""}/${fields.get("protocol") ?? "tcp"}`;
}

/** All `-p` and `--expose` of a command line. */
export function parsePorts(publish: readonly string[], expose: readonly string[]): Ports {
  const ports: Ports = { exposed: {}, bindings: {} };
  for (const spec of publish) addPort(standardNotation(spec), ports);
  for (const spec of expose) {
    if (spec.includes(":")) throw new Error(`invalid port format for --expose: ${spec}`);
    const [port = "", protocol = "tcp"] = spec.split("/");
    let bounds: readonly [number, number];
    try {
      bounds = range(port);
    } catch (error) {
      throw new Error(`invalid range format for --expose: ${spec}, error: ${(error as Error).message}`);
    }
    for (let n = bounds[0]; n <= bounds[1]; n++) ports.exposed[`${n}/${protocol.toLowerCase()}`] ??= {};
  }
  return ports;
}
