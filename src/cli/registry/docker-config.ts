/** `~/.docker/config.json`, the file that docker's client keeps: what wherry does not know in it stays as it is. @module */
import { randomBytes } from "node:crypto";
import { mkdir, readFile, realpath, rename, unlink, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { errnoOf } from "#core/errors.ts";
import { isObject, type JsonObject } from "#core/json.ts";
import type { CliIo } from "../io.ts";
import { explainFileError } from "../options/file-error.ts";

/** Credentials of one registry as the file has them. */
export interface StoredAuth {
  readonly username?: string;
  readonly password?: string;
  readonly identitytoken?: string;
  readonly registrytoken?: string;
}

export interface DockerConfig {
  readonly path: string;
  readonly auths: Readonly<Record<string, StoredAuth>>;
  /** Suffix of the program that keeps all credentials: `docker-credential-<suffix>`. */
  readonly credsStore: string | undefined;
  /** By registry, the suffix of its own program. */
  readonly credHelpers: Readonly<Record<string, string>>;
  readonly raw: JsonObject;
}

/** `--config`, `DOCKER_CONFIG`, or `~/.docker`. */
export function configDirectory({ env, cwd }: Pick<CliIo, "env" | "cwd">): string {
  return resolve(cwd, env["DOCKER_CONFIG"] || join(env["HOME"] || "/root", ".docker"));
}

/** What is in the file; a file that is not there is empty. Throws Error for one that is no configuration. */
export async function readDockerConfig(io: Pick<CliIo, "env" | "cwd">): Promise<DockerConfig> {
  const path = join(configDirectory(io), "config.json");
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw explainFileError(error, "open", path);
    text = "{}";
  }
  let raw: unknown;
  try {
    raw = text.trim() === "" ? {} : JSON.parse(text);
  } catch (error) {
    throw new Error(`${path}: it is not valid JSON: ${(error as Error).message}`);
  }
  if (!isObject(raw)) throw new Error(`${path}: it does not hold a JSON object`);
  return {
    path,
    auths: Object.fromEntries(Object.entries(isObject(raw["auths"]) ? raw["auths"] : {}).map(([server, auth]) => [server, storedAuth(auth)])),
    credsStore: typeof raw["credsStore"] === "string" && raw["credsStore"] !== "" ? raw["credsStore"] : undefined,
    credHelpers: textsOf(raw["credHelpers"]),
    raw,
  };
}

function storedAuth(value: unknown): StoredAuth {
  if (!isObject(value)) return {};
  const fields = textsOf(value);
  const { auth, identitytoken, registrytoken } = fields;
  const decoded = auth === undefined || auth === "" ? "" : Buffer.from(auth, "base64").toString("utf8").replace(/\0+$/, "");
  const colon = decoded.indexOf(":");
  const [username, password] = colon > 0 ? [decoded.slice(0, colon), decoded.slice(colon + 1)] : [fields["username"], fields["password"]];
  return {
    ...(username === undefined ? {} : { username, password: password ?? "" }),
    ...(identitytoken ? { identitytoken } : {}),
    ...(registrytoken ? { registrytoken } : {}),
  };
}

function textsOf(value: unknown): Record<string, string> {
  return Object.fromEntries(Object.entries(isObject(value) ? value : {}).filter((entry): entry is [string, string] => typeof entry[1] === "string"));
}

/** Sets or (undefined) removes what the file itself says of a registry. `inHelper`: a program has the secret, the file only the registry's name. */
export async function saveAuth({ path, raw }: DockerConfig, server: string, auth: StoredAuth | "in-helper" | undefined): Promise<void> {
  const auths: Record<string, unknown> = { ...(isObject(raw["auths"]) ? raw["auths"] : {}) };
  if (auth === undefined) delete auths[server];
  else if (auth === "in-helper") auths[server] = {};
  else {
    const { username, password, identitytoken } = auth;
    const pair = `${username ?? ""}:${identitytoken === undefined ? (password ?? "") : ""}`;
    auths[server] = { auth: Buffer.from(pair).toString("base64"), ...(identitytoken === undefined ? {} : { identitytoken }) };
  }
  await writeDockerConfig(path, { ...raw, auths });
}

/** By rename, and where the file is a link, of what it leads to. */
export async function writeDockerConfig(path: string, value: JsonObject): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const target = await realpath(path).catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return path;
    throw error;
  });
  const temporary = `${target}.${randomBytes(4).toString("hex")}`;
  try {
    await writeFile(temporary, `${JSON.stringify(value, undefined, "\t")}`, { mode: 0o600 });
    await rename(temporary, target);
  } catch (error) {
    await unlink(temporary).catch(() => undefined); // perhaps it was never made; the error that counts is told
    throw explainFileError(error, "open", path);
  }
}
