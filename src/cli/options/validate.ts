/** Checks of single values that are then sent as they are (or nearly so). Each throws Error with docker's reason. @module */
import { isIP } from "node:net";

export function streamName(text: string): string {
  const name = text.toLowerCase();
  if (name !== "stdin" && name !== "stdout" && name !== "stderr") throw new Error("valid streams are STDIN, STDOUT and STDERR");
  return name;
}

export function envEntry(text: string): string {
  if (text === "" || text.startsWith("=")) throw new Error(`invalid environment variable: ${text}`);
  return text;
}

export function label(text: string): string {
  const key = text.split("=", 1)[0]!.replace(/^[ \t]+/, "");
  if (key === "") throw new Error(`invalid label '${text}': empty name`);
  if (/[ \t]/.test(key)) throw new Error(`label '${key}' contains whitespaces`);
  return text;
}

export function ipAddress(text: string): string {
  const trimmed = text.trim();
  if (isIP(trimmed) === 0) throw new Error(`IP address is not correctly formatted: ${text}`);
  return trimmed;
}

/** `host:ip`, `host=ip`, `host:host-gateway`; sent as `host:ip`. */
export function extraHost(text: string): string {
  const cut = text.includes("=") ? text.indexOf("=") : text.indexOf(":");
  const host = text.slice(0, Math.max(cut, 0));
  if (host === "" || host.includes(":")) throw new Error(`bad format for add-host: ${JSON.stringify(text)}`);
  const address = text.slice(cut + 1).replace(/^\[(.+)\]$/, "$1");
  if (address !== "host-gateway" && isIP(address) === 0) throw new Error(`invalid IP address in add-host: ${JSON.stringify(address)}`);
  return `${host}:${address}`;
}

export function dnsSearch(text: string): string {
  const domain = text.trim();
  if (domain === ".") return domain;
  if (
    !/[a-zA-Z]/.test(domain) ||
    domain.length >= 255 ||
    !/^(:?(:?[a-zA-Z0-9]|(:?[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))(:?\.(:?[a-zA-Z0-9]|(:?[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])))*)\.?$/.test(domain)
  ) {
    throw new Error(`${text} is not a valid domain`);
  }
  return domain;
}

export function link(text: string): string {
  if (text === "") throw new Error("empty string specified for links");
  if (text.split(":").length > 2) throw new Error(`bad format for links: ${text}`);
  return text;
}

export function deviceRule(text: string): string {
  if (!/^[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}$/.test(text)) throw new Error(`invalid device cgroup format '${text}'`);
  return text;
}

const sysctls = ["kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"];

export function sysctl(text: string): string {
  const equals = text.indexOf("=");
  const key = text.slice(0, Math.max(equals, 0));
  if (!(sysctls.includes(key) || key.startsWith("net.") || key.startsWith("fs.mqueue."))) throw new Error(`sysctl '${text}' is not allowed`);
  return text;
}

/** `key=value` of `--filter`. */
export function filter(text: string): readonly [string, string] {
  const equals = text.indexOf("=");
  if (equals < 0) throw new Error("bad format of filter (expected name=value)");
  return [text.slice(0, equals).trim().toLowerCase(), text.slice(equals + 1).trim()];
}

/** "a=b" lists as a map; later ones win. */
export function toMap(entries: readonly string[]): Record<string, string> {
  const map: Record<string, string> = {};
  for (const entry of entries) {
    const equals = entry.indexOf("=");
    map[equals < 0 ? entry : entry.slice(0, equals)] = equals < 0 ? "" : entry.slice(equals + 1);
  }
  return map;
}

export function macAddress(text: string): string {
  if (!/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(text.trim())) throw new Error(`${text} is not a valid mac address`);
  return text.trim();
}
