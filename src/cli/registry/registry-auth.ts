/** Whose credentials go with a request about an image. @module */
import { parseReference } from "#core/reference.ts";
import type { CliIo } from "../io.ts";
import { CredentialHelper } from "./credential-helper.ts";
import { type DockerConfig, readDockerConfig, saveAuth, type StoredAuth } from "./docker-config.ts";

/** Docker Hub's name in `config.json`. */
export const hubServer = "https://index.docker.io/v1/";

/** The name under which a registry's credentials are kept. */
export function serverOf(domain: string): string {
  return domain === "docker.io" || domain === "index.docker.io" ? hubServer : domain;
}

/** `https://host/v2/` → `host`: old files name registries by URL. */
export function hostOf(server: string): string {
  return server.replace(/^https?:\/\//i, "").split("/")[0] ?? "";
}

/** The credentials of a registry; undefined: none. */
export async function storedCredentials(io: CliIo, server: string, config?: DockerConfig): Promise<StoredAuth | undefined> {
  const known = config ?? (await readDockerConfig(io));
  const helper = helperFor(known, server);
  if (helper !== undefined) {
    const found = await new CredentialHelper(io, helper).get(server);
    if (found !== undefined) return found.Username === "<token>" ? { identitytoken: found.Secret } : { username: found.Username, password: found.Secret };
    if (known.credHelpers[server] !== undefined) return undefined;
  }
  const exact = known.auths[server] ?? Object.entries(known.auths).find(([name]) => hostOf(name) === hostOf(server))?.[1];
  return exact === undefined || Object.keys(exact).length === 0 ? undefined : exact;
}

function helperFor({ credHelpers, credsStore }: DockerConfig, server: string): string | undefined {
  return credHelpers[server] ?? credsStore;
}

/** Keeps credentials where the configuration says; true when they lie in the file, as everybody with the file can read them. */
export async function storeCredentials(io: CliIo, server: string, auth: StoredAuth): Promise<boolean> {
  const config = await readDockerConfig(io);
  const helper = helperFor(config, server);
  if (helper === undefined) {
    await saveAuth(config, server, auth);
    return true;
  }
  const { username = "", password = "", identitytoken } = auth;
  await new CredentialHelper(io, helper).store(
    server,
    identitytoken === undefined ? { Username: username, Secret: password } : { Username: "<token>", Secret: identitytoken },
  );
  await saveAuth(config, server, "in-helper");
  return false;
}

/** Forgets them, wherever they are kept. */
export async function eraseCredentials(io: CliIo, server: string): Promise<void> {
  const config = await readDockerConfig(io);
  const names = Object.keys(config.auths).filter((name) => name === server || hostOf(name) === hostOf(server));
  const helper = helperFor(config, server);
  if (helper !== undefined) await new CredentialHelper(io, helper).erase(server);
  for (const name of names) await saveAuth(await readDockerConfig(io), name, undefined);
}

/** `X-Registry-Auth` for an image's name; without credentials the empty object, which docker sends too. */
export async function authHeaders(io: CliIo, reference: string): Promise<Record<string, string>> {
  return authHeadersFor(io, parseReference(reference).domain);
}

/** The same for a registry. */
export async function authHeadersFor(io: CliIo, domain: string): Promise<Record<string, string>> {
  const server = serverOf(domain);
  const stored = await storedCredentials(io, server);
  return { "X-Registry-Auth": Buffer.from(JSON.stringify(stored === undefined ? {} : { ...stored, serveraddress: server })).toString("base64url") };
}
