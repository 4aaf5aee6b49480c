/**
 * slirp4netns. Ports are published by requests to a socket of its own.
 * @module
 * @see slirp4netns(1)
 */
import { createConnection } from "node:net";
import { EngineError } from "#core/errors.ts";
import type { Forward, Place, UserSpaceProgram } from "./program.ts";

const ANSWER_MS = 5_000;

/** One request: the program answers, and closes. */
function ask(socket: string, request: object): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const connection = createConnection(socket, () => connection.end(JSON.stringify(request)));
    connection.setTimeout(ANSWER_MS, () => connection.destroy(new Error(`no answer within ${ANSWER_MS / 1000} s`)));
    connection.on("data", (data: Buffer) => (answer += data.toString()));
    connection.on("error", reject);
    connection.on("close", () => resolve(answer));
  });
}

async function forward(socket: string, { address }: Place, { protocol, hostIp, hostPort, port }: Forward): Promise<void> {
  const request = { execute: "add_hostfwd", arguments: { proto: protocol, host_addr: hostIp, host_port: hostPort, guest_addr: address, guest_port: port } };
  const failed = (reason: string, cause?: unknown) =>
    new EngineError("kernel", `slirp4netns could not publish ${hostIp}:${hostPort}/${protocol}: ${reason}`, { cause, details: { hostIp, hostPort } });
  const answer = await ask(socket, request).catch((cause: unknown) => {
    throw failed(cause instanceof Error ? cause.message : String(cause), cause);
  });
  // {"return":{"id":1}} or {"error":{"desc":"…"}}
  if (!/^\s*\{\s*"return"/.test(answer)) throw failed(/"desc"\s*:\s*"([^"]*)"/.exec(answer)?.[1] ?? `it answered ${JSON.stringify(answer)}`);
}

export const slirp: UserSpaceProgram = {
  name: "slirp4netns",
  package: "slirp4netns",
  ready: 3,
  // Address, gateway, resolver and prefix are its own choices, fixed in its manual. DNS is for its own resolver to ask; the host's loopback is closed.
  options: ({ interfaceName, mac, mtu }, forwards, socket) => [
    ...["--configure", `--mtu=${mtu}`, `--macaddress=${mac}`, "--disable-host-loopback", "--ready-fd=3", "--exit-fd=4", "--netns-type=path"],
    ...(forwards.length === 0 ? [] : [`--api-socket=${socket}`]),
    ...["/proc/self/fd/0", interfaceName],
  ],
  publish: async (place, forwards, socket) => {
    for (const each of forwards) await forward(socket, place, each);
  },
};
