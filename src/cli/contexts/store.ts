/**
 * Docker's contexts: names for daemons, in files that docker and wherry share.
 *
 *     <config>/contexts/meta/<sha256 of the name>/meta.json
 *     <config>/contexts/tls/<sha256 of the name>/docker/{ca,cert,key}.pem
 * @module
 */
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "#core/errors.ts";
import { isObject, type JsonObject } from "#core/json.ts";
import type { CliIo } from "../io.ts";
import { configDirectory } from "../registry/docker-config.ts";

export interface Context {
  readonly name: string;
  readonly description: string;
  /** "" = the default daemon. */
  readonly host: string;
  readonly skipTlsVerify: boolean;
  /** The file as it is: what others keep in it stays. */
  readonly raw: JsonObject;
}

/** PEM files of a context, by their names on disk. */
export const tlsFiles = ["ca.pem", "cert.pem", "key.pem"] as const;
export type TlsFile = (typeof tlsFiles)[number];

type Place = Pick<CliIo, "env" | "cwd">;

const directoryOf = (io: Place, kind: "meta" | "tls", name: string): string =>
  join(configDirectory(io), "contexts", kind, createHash("sha256").update(name).digest("hex"));

/** Where its `meta.json` lies. */
export function metaDirectory(io: Place, name: string): string {
  return directoryOf(io, "meta", name);
}

export function tlsDirectory(io: Place, name: string): string {
  return join(directoryOf(io, "tls", name), "docker");
}

/** Throws Error with docker's reason when a name is none. */
export function checkContextName(name: string): void {
  if (name === "") throw new Error("context name cannot be empty");
  if (name === "default") throw new Error('"default" is a reserved context name');
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$/.test(name))
    throw new Error(`context name "${name}" is invalid, names are validated against regexp "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$"`);
}

/** undefined: there is none. */
export async function findContext(io: Place, name: string): Promise<Context | undefined> {
  return readMeta(join(metaDirectory(io, name), "meta.json"));
}

/** Throws Error in docker's words when there is none. */
export async function knownContext(io: Place, name: string): Promise<Context> {
  const found = await findContext(io, name);
  if (found === undefined)
    throw new Error(`context "${name}": context not found: open ${join(metaDirectory(io, name), "meta.json")}: no such file or directory`);
  return found;
}

async function readMeta(path: string): Promise<Context | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
  const raw: unknown = JSON.parse(text);
  if (!isObject(raw) || typeof raw["Name"] !== "string") throw new Error(`${path} is not the file of a context`);
  const metadata = isObject(raw["Metadata"]) ? raw["Metadata"] : {};
  const endpoints = isObject(raw["Endpoints"]) ? raw["Endpoints"] : {};
  const docker = isObject(endpoints["docker"]) ? endpoints["docker"] : {};
  return {
    name: raw["Name"],
    description: typeof metadata["Description"] === "string" ? metadata["Description"] : "",
    host: typeof docker["Host"] === "string" ? docker["Host"] : "",
    skipTlsVerify: docker["SkipTLSVerify"] === true,
    raw,
  };
}

/** By name. */
export async function listContexts(io: Place): Promise<Context[]> {
  const root = join(configDirectory(io), "contexts", "meta");
  const names = await readdir(root).catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  });
  const found = await Promise.all(names.map((name) => readMeta(join(root, name, "meta.json"))));
  return found.filter((context) => context !== undefined).sort((a, b) => (a.name < b.name ? -1 : 1));
}

export async function saveContext(
  io: Place,
  context: Omit<Context, "raw"> & { readonly raw?: JsonObject },
  tls: ReadonlyMap<TlsFile, Uint8Array>,
): Promise<void> {
  const raw = {
    ...context.raw,
    Name: context.name,
    Metadata: { ...(isObject(context.raw?.["Metadata"]) ? context.raw["Metadata"] : {}), Description: context.description },
    Endpoints: {
      ...(isObject(context.raw?.["Endpoints"]) ? context.raw["Endpoints"] : {}),
      docker: { Host: context.host, SkipTLSVerify: context.skipTlsVerify },
    },
  };
  const meta = metaDirectory(io, context.name);
  await mkdir(meta, { recursive: true, mode: 0o755 });
  if (tls.size > 0) {
    const directory = tlsDirectory(io, context.name);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    for (const [name, bytes] of tls) await writeFile(join(directory, name), bytes, { mode: 0o600 });
  }
  await writeFile(join(meta, "meta.json.new"), JSON.stringify(raw), { mode: 0o644 });
  await rename(join(meta, "meta.json.new"), join(meta, "meta.json"));
}

export async function removeContext(io: Place, name: string): Promise<void> {
  await rm(metaDirectory(io, name), { recursive: true, force: true });
  await rm(directoryOf(io, "tls", name), { recursive: true, force: true });
}

/** The PEM files that a context has. */
export async function readTls(io: Place, name: string): Promise<Map<TlsFile, Uint8Array>> {
  const found = new Map<TlsFile, Uint8Array>();
  for (const file of tlsFiles) {
    const bytes = await readFile(join(tlsDirectory(io, name), file)).catch((error: unknown) => {
      if (errnoOf(error) === "ENOENT") return undefined;
      throw error;
    });
    if (bytes !== undefined) found.set(file, bytes);
  }
  return found;
}
