/** Credentials on docker's wire: the header `X-Registry-Auth` and the body of `POST /auth`. @module */
import { EngineError } from "#core/errors.ts";
import { JsonFields, parseJson } from "#core/json.ts";
import type { Credentials } from "#registry/mod.ts";

const maxHeader = 64 * 1024;

/** Docker's `X-Registry-Auth`: base64url of JSON, padded or not. Undefined for none, and for one that names nobody. EngineError invalid. */
export function parseAuthHeader(header: string | string[] | undefined): Credentials | undefined {
  if (header === undefined || header === "" || typeof header !== "string") return undefined;
  if (header.length > maxHeader) throw invalid("it is too long");
  const bytes = Buffer.from(header, "base64");
  if (bytes.length === 0) throw invalid("it is not base64");
  return parseCredentials(bytes);
}

/** Docker's name for its own registry in lists of credentials. */
const dockerHub = "https://index.docker.io/v1/";

/** Docker's `X-Registry-Config` of a build: base64url of JSON, credentials by server. EngineError invalid. */
export function parseRegistryConfig(header: string | string[] | undefined): (domain: string) => Credentials | undefined {
  if (header === undefined || header === "" || typeof header !== "string") return () => undefined;
  if (header.length > maxHeader) throw new EngineError("invalid", "invalid X-Registry-Config header: it is too long");
  let servers: JsonFields;
  try {
    servers = new JsonFields(parseJson(Buffer.from(header, "base64"), "the credentials"), "the credentials");
  } catch {
    // The cause holds what was sent: it must not get into a log.
    throw new EngineError("invalid", "invalid X-Registry-Config header: it is not the JSON that was expected");
  }
  return (domain) => {
    const names = domain === "docker.io" ? [dockerHub, "docker.io", "index.docker.io"] : [domain, `https://${domain}`, `http://${domain}`];
    const name = names.find((known) => servers.object(known) !== undefined);
    return name === undefined ? undefined : credentialsOf(servers.object(name)!);
  };
}

/** The JSON of `POST /auth` and of the header. */
export function parseCredentials(json: Uint8Array): Credentials | undefined {
  let fields: JsonFields;
  try {
    fields = new JsonFields(parseJson(json, "the credentials"), "the credentials");
    return credentialsOf(fields);
  } catch (error) {
    // The cause holds what was sent: it must not get into a log.
    throw invalid(error instanceof EngineError ? "it is not the JSON that was expected" : String(error));
  }
}

function credentialsOf(fields: JsonFields): Credentials | undefined {
  const text = (key: string) => fields.text(key) || undefined;
  let [username, password] = [text("username"), text("password")];
  const pair = text("auth");
  if (username === undefined && pair !== undefined) {
    const decoded = Buffer.from(pair, "base64").toString("utf8").replace(/\0+$/, "");
    const colon = decoded.indexOf(":");
    if (colon > 0) [username, password] = [decoded.slice(0, colon), decoded.slice(colon + 1)];
  }
  const [identityToken, registryToken, serverAddress] = [text("identitytoken"), text("registrytoken"), text("serveraddress")];
  const server = serverAddress === undefined ? {} : { serverAddress };
  if (registryToken !== undefined) return { registryToken, ...server };
  if (identityToken !== undefined) return { identityToken, ...(username === undefined ? {} : { username }), ...server };
  if (username === undefined) return serverAddress === undefined ? undefined : { ...server };
  return { username, password: password ?? "", ...server };
}

function invalid(why: string): EngineError {
  return new EngineError("invalid", `invalid X-Registry-Auth header: ${why}`);
}
