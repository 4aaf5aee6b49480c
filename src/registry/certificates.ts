/** TLS of a registry's host: docker's certs.d. @module @see https://docs.docker.com/engine/security/certificates/ */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { rootCertificates } from "node:tls";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { RegistryConfig } from "./config.ts";

export interface TlsOptions {
  /** Undefined: those that Node knows. */
  readonly ca?: string[];
  readonly cert?: string;
  readonly key?: string;
}

/** Reads `<directory>/<host>`: `*.crt` are authorities, `x.cert` with `x.key` is this client's certificate. EngineError invalid for half a pair. */
export async function tlsOptionsOf(host: string, { certDirectories, extraAuthorities }: RegistryConfig): Promise<TlsOptions> {
  const authorities: string[] = [];
  let pair: Pick<TlsOptions, "cert" | "key"> = {};
  for (const root of certDirectories) {
    const directory = join(root, host);
    const names = await namesIn(directory);
    for (const name of names) {
      if (name.endsWith(".crt")) authorities.push(await read(join(directory, name)));
      else if (name.endsWith(".cert")) pair = await readPair(directory, name, name.replace(/\.cert$/, ".key"), names);
      else if (name.endsWith(".key") && !names.includes(name.replace(/\.key$/, ".cert")))
        throw new EngineError("invalid", `missing client certificate ${name.replace(/\.key$/, ".cert")} for key ${name}`);
    }
  }
  if (extraAuthorities !== undefined) authorities.push(await read(extraAuthorities));
  return { ...(authorities.length === 0 ? {} : { ca: [...rootCertificates, ...authorities] }), ...pair };
}

async function readPair(directory: string, cert: string, key: string, names: readonly string[]): Promise<Pick<TlsOptions, "cert" | "key">> {
  if (!names.includes(key)) throw new EngineError("invalid", `missing key ${key} for client certificate ${cert}. CA certificates must use the extension .crt`);
  return { cert: await read(join(directory, cert)), key: await read(join(directory, key)) };
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).sort();
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return [];
    throw new EngineError("invalid", `cannot read ${directory}: ${errnoOf(error)}`, { cause: error });
  }
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new EngineError("invalid", `cannot read ${path}: ${errnoOf(error) ?? String(error)}`, { cause: error });
  }
}
