/** A token server as registries name them in their challenges: signs what a user may do. @module @see https://distribution.github.io/distribution/spec/auth/token/ */
import { execFileSync } from "node:child_process";
import { createSign, randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { join } from "node:path";

/** A key and a certificate that has signed itself, as PEM files in `directory`. */
export function selfSigned(
  directory: string,
  name: string,
  subject = `/CN=${name}`,
  extra: readonly string[] = [],
): { readonly cert: string; readonly key: string } {
  const [cert, key] = [join(directory, `${name}.crt`), join(directory, `${name}.key`)];
  const args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", subject, ...extra];
  execFileSync("openssl", args, { stdio: "ignore" });
  return { cert, key };
}

export interface TokenRequest {
  readonly method: string;
  readonly user: string | undefined;
  readonly scopes: readonly string[];
  readonly grant: string | undefined;
}

export class TokenServer {
  static readonly issuer = "wherry-test-issuer";
  static readonly service = "wherry-test-registry";
  readonly realm: string;
  readonly requests: TokenRequest[] = [];
  /** Seconds. */
  expiresIn = 300;
  /** Answers with this status, when set. */
  broken: number | undefined;
  readonly #server: Server;

  private constructor(server: Server, realm: string) {
    this.#server = server;
    this.realm = realm;
  }

  /** `users`: name → password. Nobody may pull `public/…`, users everything. */
  static async start(files: { readonly cert: string; readonly key: string }, users: Readonly<Record<string, string>>): Promise<TokenServer> {
    const der = readFileSync(files.cert, "utf8").replace(/-----[^-]+-----|\s/g, "");
    const key = readFileSync(files.key);
    const server = createServer((request, response) => {
      void (async () => {
        const url = new URL(request.url ?? "", "http://x");
        const form = request.method === "POST" ? new URLSearchParams(await bodyOf(request)) : url.searchParams;
        const user = userOf(request, form, users);
        const scopes = request.method === "POST" ? (form.get("scope") ?? "").split(" ").filter((s) => s !== "") : form.getAll("scope");
        self.requests.push({ method: request.method ?? "", user: user ?? undefined, scopes, grant: form.get("grant_type") ?? undefined });
        if (self.broken !== undefined) return void response.writeHead(self.broken).end("{}");
        if (user === null)
          return void response
            .writeHead(401, { "content-type": "application/json" })
            .end('{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}');
        const access = scopes.flatMap((scope) => {
          const [type = "", name = "", actions = ""] = scope.split(":");
          const allowed = actions
            .split(",")
            .filter((action) => user !== undefined || (type === "repository" && name.startsWith("public/") && action === "pull"));
          return allowed.length === 0 ? [] : [{ type, name, actions: allowed }];
        });
        const now = Math.floor(Date.now() / 1000);
        const claims = {
          iss: TokenServer.issuer,
          sub: user ?? "",
          aud: TokenServer.service,
          exp: now + self.expiresIn,
          nbf: now - 5,
          iat: now,
          jti: randomUUID(),
          access,
        };
        const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
        const text = `${part({ typ: "JWT", alg: "RS256", x5c: [der] })}.${part(claims)}`;
        const token = `${text}.${createSign("RSA-SHA256").update(text).sign(key).toString("base64url")}`;
        const refresh = form.get("offline_token") === "true" && user !== undefined ? { refresh_token: `refresh-${user}` } : {};
        response
          .writeHead(200, { "content-type": "application/json" })
          .end(JSON.stringify({ token, access_token: token, expires_in: self.expiresIn, ...refresh }));
      })();
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    const self: TokenServer = new TokenServer(server, `http://127.0.0.1:${address.port}/token`);
    return self;
  }

  /** The section `auth` of docker-registry. */
  auth(rootCertificates: string): string[] {
    return [
      "token:",
      `  realm: ${this.realm}`,
      `  service: ${TokenServer.service}`,
      `  issuer: ${TokenServer.issuer}`,
      `  rootcertbundle: ${rootCertificates}`,
    ];
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}

/** undefined: nobody; null: somebody who is not known. */
function userOf(request: IncomingMessage, form: URLSearchParams, users: Readonly<Record<string, string>>): string | undefined | null {
  const refresh = form.get("refresh_token");
  if (refresh !== null) return Object.keys(users).find((user) => refresh === `refresh-${user}`) ?? null;
  const basic = /^Basic (.+)$/.exec(request.headers.authorization ?? "");
  if (basic === null) return undefined;
  const [user = "", password] = Buffer.from(basic[1]!, "base64").toString("utf8").split(/:(.*)/s);
  return users[user] === password ? user : null;
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of request) text += String(chunk);
  return text;
}
