/** Names of the servers of network filesystems. @module */
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { EngineError } from "#core/errors.ts";
import type { LocalBacking } from "./local-options.ts";

type Source = Omit<Extract<LocalBacking, { kind: "mount" }>, "kind">;
type Resolve = (name: string) => Promise<string>;

/**
 * The kernel takes a network filesystem's server as an address: names, in `addr=` of nfs and in the device of cifs, are resolved by whoever mounts. So at each
 * mount, and not once when the volume is made.
 * `what` is done, for the error. @throws EngineError "unavailable" for a name that nobody knows now
 */
export async function withServerAddress(what: string, source: Source, resolve: Resolve = addressOf): Promise<Source> {
  const { fstype, device, options } = source;
  const known = (name: string) => (isIP(name) === 0 ? resolved(what, name, resolve) : name);
  if (/^nfs4?$/.test(fstype)) {
    const all = options.map(async (option) => (option.startsWith("addr=") ? `addr=${await known(option.slice("addr=".length))}` : option));
    return { ...source, options: await Promise.all(all) };
  }
  const [, server, share] = /^\/\/([^/]+)(\/.*)$/.exec(device) ?? [];
  if (fstype !== "cifs" || server === undefined) return source;
  const address = await known(server);
  return { fstype, device: `//${address}${share}`, options: options.some((option) => /^(ip|addr)=/.test(option)) ? options : [...options, `ip=${address}`] };
}

const addressOf: Resolve = async (name) => (await lookup(name)).address;

async function resolved(what: string, name: string, resolve: Resolve): Promise<string> {
  try {
    return await resolve(name);
  } catch (error) {
    throw new EngineError("unavailable", `${what}: the server's name "${name}" cannot be resolved: ${(error as Error).message}`, {
      cause: error,
      hint: "give its IP address in the volume's options, or see to it that the host can resolve the name",
    });
  }
}
