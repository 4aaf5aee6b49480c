/**
 * Says who asks: nobody, by name and password, or with a token that a token server gives for a scope.
 * @module
 * @see https://distribution.github.io/distribution/spec/auth/token/
 * @see https://distribution.github.io/distribution/spec/auth/oauth/
 */
import type { Clock } from "#core/clock.ts";
import { EngineError } from "#core/errors.ts";
import { JsonFields, parseJson } from "#core/json.ts";
import { type Challenge, parseChallenges } from "./challenge.ts";
import type { Credentials } from "./credentials.ts";
import { isInsecure } from "./endpoints.ts";
import type { RegistryConfig } from "./config.ts";
import { refusal } from "./errors.ts";
import { type HttpAnswer, type Network, readSmall } from "./network.ts";
import { type RetryOptions, withRetries } from "./retry.ts";

export interface AuthorizerOptions {
  readonly network: Network;
  readonly credentials?: Credentials | undefined;
  readonly config: RegistryConfig;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  readonly onWait?: RetryOptions["onWait"];
}

interface Token {
  readonly value: string;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
}

const clientId = "wherry";
const maxTokenBytes = 1024 * 1024;
/** A token is not used in its last seconds: the request has to arrive. */
const marginMs = 10_000;
const defaultLifeMs = 60_000;

export class Authorizer {
  readonly #options: AuthorizerOptions;
  readonly #tokens = new Map<string, Token>();
  #challenge: Challenge | undefined;

  constructor(options: AuthorizerOptions) {
    this.#options = options;
  }

  /** The `Authorization` for these scopes, as far as the registry has said what it wants; undefined: none. */
  async header(scopes: readonly string[]): Promise<string | undefined> {
    const { registryToken } = this.#options.credentials ?? {};
    if (registryToken !== undefined) return `Bearer ${registryToken}`;
    if (this.#challenge?.scheme === "basic") return this.#basic();
    if (this.#challenge?.scheme === "bearer") return `Bearer ${await this.#token(this.#challenge, scopes)}`;
    return undefined;
  }

  /** Learns from a 401. True when asking again, with {@link header}, makes sense. */
  learn(answer: HttpAnswer, scopes: readonly string[]): boolean {
    if (this.#options.credentials?.registryToken !== undefined) return false;
    const challenges = parseChallenges(answer.header("www-authenticate") ?? "");
    const challenge = challenges.find(({ scheme }) => scheme === "bearer") ?? challenges.find(({ scheme }) => scheme === "basic");
    if (challenge === undefined || (challenge.scheme === "basic" && this.#basic() === undefined)) return false;
    this.#challenge = challenge;
    this.#tokens.delete(scopes.join(" "));
    return true;
  }

  /** For `login`: a refresh token for later, when the token server gives one. */
  async refreshToken(): Promise<string | undefined> {
    if (this.#challenge?.scheme !== "bearer") return undefined;
    const { refresh } = await this.#request(this.#challenge, [], true);
    return refresh;
  }

  #basic(): string | undefined {
    const { username, password } = this.#options.credentials ?? {};
    return username === undefined || password === undefined ? undefined : `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
  }

  async #token(challenge: Challenge, scopes: readonly string[]): Promise<string> {
    const key = scopes.join(" ");
    const known = this.#tokens.get(key);
    if (known !== undefined && known.expiresAt > this.#options.clock.now()) return known.value;
    const { token, lifeMs } = await this.#request(challenge, scopes, false);
    this.#tokens.set(key, { value: token, expiresAt: this.#options.clock.now() + Math.max(lifeMs - marginMs, lifeMs / 2) });
    return token;
  }

  async #request(
    challenge: Challenge,
    scopes: readonly string[],
    offline: boolean,
  ): Promise<{ readonly token: string; readonly lifeMs: number; readonly refresh: string | undefined }> {
    const { credentials, clock, signal, onWait } = this.#options;
    const realm = await this.#realm(challenge);
    const service = challenge.parameters["service"];
    const bytes = await withRetries(
      async () => {
        const answer =
          credentials?.identityToken === undefined
            ? await this.#get(realm, service, scopes, offline)
            : await this.#post(realm, service, scopes, credentials.identityToken);
        if (answer.status !== 200) throw await refusal(answer, `token from ${realm.origin}`, clock.now());
        return readSmall(answer, maxTokenBytes);
      },
      { clock, signal, onWait },
    );
    const what = `the token of ${realm.origin}`;
    const fields = new JsonFields(parseJson(bytes, what), what);
    const token = fields.text("token") || fields.text("access_token");
    if (token === undefined || !/^[\x21-\x7e]+$/.test(token))
      throw new EngineError("corrupt", `authorization server ${realm.origin} did not include a token in the response`);
    return { token, lifeMs: (fields.number("expires_in") || defaultLifeMs / 1000) * 1000, refresh: fields.text("refresh_token") || undefined };
  }

  async #realm({ parameters }: Challenge): Promise<URL> {
    let realm: URL;
    try {
      realm = new URL(parameters["realm"] ?? "");
    } catch (error) {
      throw new EngineError("corrupt", `the registry names a token server that is no URL: "${(parameters["realm"] ?? "").slice(0, 200)}"`, { cause: error });
    }
    if (realm.protocol !== "https:" && (realm.protocol !== "http:" || !(await isInsecure(realm.host, this.#options.config)))) {
      throw new EngineError("denied", `the registry names the token server ${realm.origin}, which has no TLS: no credentials are sent there`, {
        hint: `if that is meant: wherryd --insecure-registry ${realm.host}`,
      });
    }
    return realm;
  }

  #get(realm: URL, service: string | undefined, scopes: readonly string[], offline: boolean): Promise<HttpAnswer> {
    const url = new URL(realm);
    if (service !== undefined) url.searchParams.set("service", service);
    for (const scope of scopes) url.searchParams.append("scope", scope);
    const { username } = this.#options.credentials ?? {};
    const basic = this.#basic();
    if (username !== undefined) url.searchParams.set("account", username);
    if (offline) {
      url.searchParams.set("offline_token", "true");
      url.searchParams.set("client_id", clientId);
    }
    return this.#options.network.send(url, { method: "GET", headers: basic === undefined ? {} : { authorization: basic }, signal: this.#options.signal });
  }

  #post(realm: URL, service: string | undefined, scopes: readonly string[], refreshToken: string): Promise<HttpAnswer> {
    const form = new URLSearchParams({ grant_type: "refresh_token", client_id: clientId, refresh_token: refreshToken });
    if (service !== undefined) form.set("service", service);
    if (scopes.length > 0) form.set("scope", scopes.join(" "));
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    return this.#options.network.send(realm, { method: "POST", headers, body: Buffer.from(form.toString()), signal: this.#options.signal });
  }
}
