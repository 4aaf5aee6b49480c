/** Where the API listens: unix sockets and TCP. @module */
import { once } from "node:events";
import { chown, readFile, rm, stat } from "node:fs/promises";
import type { Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { Log } from "./router.ts";

export type HostAddress =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "fd"; readonly fd: number }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number };

/** `unix:///run/x.sock`, `tcp://127.0.0.1:2375`. Throws EngineError invalid. */
export function parseHost(text: string): HostAddress {
  const unix = /^unix:\/\/(\/.+)$/.exec(text)?.[1];
  if (unix !== undefined) {
    if (Buffer.byteLength(unix) > 107) throw new EngineError("invalid", `invalid host ${text}: a unix socket's path has at most 107 bytes`);
    return { kind: "unix", path: unix };
  }
  const tcp = /^tcp:\/\/(?:\[([0-9a-fA-F:.]+)\]|([^:/]*)):(\d{1,5})\/?$/.exec(text);
  if (tcp && Number(tcp[3]) <= 65535) return { kind: "tcp", host: tcp[1] ?? (tcp[2] === "" ? "127.0.0.1" : tcp[2]!), port: Number(tcp[3]) };
  const fd = /^fd:\/\/(\d{1,4})$/.exec(text)?.[1];
  if (fd !== undefined) return { kind: "fd", fd: Number(fd) };
  throw new EngineError("invalid", `invalid host "${text.slice(0, 200)}": expected unix:///path, tcp://address:port or fd://`);
}

/** The first descriptor that a service manager passes. */
const firstPassed = 3;

/**
 * `fd://` stands for every socket that systemd has passed (LISTEN_FDS, for this LISTEN_PID): `fd://3`, `fd://4`, …
 * @throws EngineError invalid when there is none
 * @see sd_listen_fds(3)
 */
export function resolveHosts(hosts: readonly string[], env: Readonly<Record<string, string | undefined>>, pid: number): string[] {
  return hosts.flatMap((host) => {
    if (host !== "fd://") return [host];
    const count = env.LISTEN_PID === String(pid) ? Number(env.LISTEN_FDS) : 0;
    if (!(count > 0)) throw new EngineError("invalid", "no sockets found via socket activation: make sure the service was started by systemd");
    return Array.from({ length: count }, (_, i) => `fd://${firstPassed + i}`);
  });
}

/** A socket file without a listener is a leftover; one with a listener belongs to another daemon. */
async function removeStaleSocket(path: string): Promise<void> {
  try {
    if (!(await stat(path)).isSocket()) throw new EngineError("conflict", `${path} exists and is not a socket`);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return;
    throw error;
  }
  const probe = connect(path);
  try {
    await once(probe, "connect");
  } catch (error) {
    if (errnoOf(error) !== "ECONNREFUSED") throw error;
    await rm(path, { force: true });
    return;
  } finally {
    probe.destroy();
  }
  throw new EngineError("conflict", `another daemon listens on ${path}`);
}

/** Group `docker` may use the socket, where there is one. */
async function dockerGroup(): Promise<number | undefined> {
  const groups = await readFile("/etc/group", "utf8").catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return "";
    throw error;
  });
  const id = /^docker:[^:]*:(\d+):/m.exec(groups)?.[1];
  return id === undefined ? undefined : Number(id);
}

/** Starts listening; resolves with the address as clients write it. */
export async function listenOn(server: Server, text: string, log: Log, encrypted = false): Promise<string> {
  const address = parseHost(text);
  if (address.kind === "unix") await removeStaleSocket(address.path);
  const listening = once(server, "listening");
  if (address.kind === "fd") {
    server.listen({ fd: address.fd });
    await listening;
    const bound = server.address();
    return typeof bound === "string" ? `unix://${bound}` : text;
  }
  if (address.kind === "tcp") {
    server.listen({ host: address.host, port: address.port });
    await listening;
    const { address: host, port, family } = server.address() as AddressInfo; // a TCP server has one
    if (!encrypted) log("warn", `the API on ${host}:${port} is not encrypted and gives root on this machine to whoever reaches it`);
    return `tcp://${family === "IPv6" ? `[${host}]` : host}:${port}`;
  }
  // bind(2) happens within this call: the socket never exists with wider permissions than rw-rw----.
  const umask = process.umask(0o117);
  try {
    server.listen({ path: address.path });
  } finally {
    process.umask(umask);
  }
  await listening;
  const group = await dockerGroup();
  if (group !== undefined && process.getuid?.() === 0) await chown(address.path, 0, group);
  return `unix://${address.path}`;
}
