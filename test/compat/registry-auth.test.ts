/** Names and passwords, tokens, credential helpers: docker's client and ours log in to, push to and pull from registries that ask who is there. */
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { hasProgram, TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { busyboxArchive } from "./images.ts";
import { DockerRegistry } from "./registry.ts";
import { ok, run, terminal } from "./run.ts";
import { selfSigned, TokenServer } from "./token-server.ts";

const lacking = ["docker", "htpasswd", "openssl"].find((name) => !hasProgram(name));
const reason = whyNot() ?? DockerRegistry.missing ?? (lacking === undefined ? undefined : `no ${lacking}`);
if (reason) console.warn(`registry-auth: skipped: ${reason}`);

describe.skipIf(reason !== undefined)("registries that ask who is there", () => {
  const work = mkdtempSync(join(tmpdir(), "wt-auth-"));
  const home = join(work, "home");
  const config = join(home, ".docker", "config.json");
  const bin = join(work, "bin");
  const daemon = new TestDaemon();
  const env = { DOCKER_HOST: daemon.host, WHERRY_HOST: daemon.host, HOME: home, PATH: `${bin}:${process.env.PATH}` };
  const docker = (...args: string[]) => ok(["docker", ...args], { env });
  const wherry = (...args: string[]) => ok([wherryPath, ...args], { env });
  let basic: DockerRegistry;
  let tokens: DockerRegistry;
  let server: TokenServer;

  beforeAll(async () => {
    mkdirSync(bin);
    const archive = busyboxArchive(work);
    writeFileSync(join(work, "htpasswd"), execFileSync("htpasswd", ["-Bbn", "me", "s3cret:with/colon"]));
    const files = selfSigned(work, "issuer");
    server = await TokenServer.start(files, { me: "s3cret" });
    [basic, tokens] = await Promise.all([
      DockerRegistry.start(join(work, "basic"), { auth: ["htpasswd:", "  realm: basic-realm", `  path: ${join(work, "htpasswd")}`] }),
      DockerRegistry.start(join(work, "tokens"), { auth: server.auth(files.cert) }),
      daemon.start(),
    ]);
    await docker("load", "-i", archive.path);
  });

  beforeEach(() => {
    rmSync(join(home, ".docker"), { recursive: true, force: true });
    mkdirSync(join(home, ".docker"), { recursive: true });
  });

  afterAll(async () => {
    const left = await daemon.stop();
    await Promise.all([basic.stop(), tokens.stop(), server.stop()]);
    rmSync(work, { recursive: true, force: true });
    expect(left).toEqual([]);
  });

  const clients = [
    { client: "docker", command: ["docker"] },
    { client: "wherry", command: [wherryPath] },
  ];

  test.each(clients)("$client: login with name and password; without, push and pull are refused; logout", async ({ client, command }) => {
    const name = `${basic.host}/${client}/box:1`;
    const call = (args: readonly string[], input?: string) => run([...command, ...args], { env, ...(input === undefined ? {} : { input }) });
    await docker("tag", "busybox", name);
    const refused = await call(["push", name]);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/unauthorized: authentication required|no basic auth credentials/);
    const wrong = await call(["login", "-u", "me", "--password-stdin", basic.host], "nonsense");
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toContain("unauthorized: authentication required");
    expect(existsSync(config)).toBe(false);
    const right = await call(["login", "-u", "me", "--password-stdin", basic.host], "s3cret:with/colon\n");
    expect(right).toMatchObject({ code: 0, stdout: expect.stringContaining("Login Succeeded") as string });
    expect(JSON.parse(readFileSync(config, "utf8"))).toEqual({ auths: { [basic.host]: { auth: Buffer.from("me:s3cret:with/colon").toString("base64") } } });
    expect((await call(["push", name])).stdout).toContain("digest: sha256:");
    await docker("rmi", name);
    expect((await call(["run", "--rm", "--network", "none", name, "echo", "fetched"])).stdout).toBe("fetched\n");
    await docker("rmi", name);
    expect((await call(["logout", basic.host])).stdout).toContain(`Removing login credentials for ${basic.host}`);
    expect(JSON.parse(readFileSync(config, "utf8"))).not.toHaveProperty(["auths", basic.host]);
    const denied = await call(["pull", name]);
    expect(denied.stderr).toContain(`pull access denied for ${name.replace(/:1$/, "")}, repository does not exist or may require 'docker login'`);
  });

  test.each(clients)("$client: a token server gives tokens by scope, and a refresh token that is kept instead of the password", async ({ client, command }) => {
    const name = `${tokens.host}/public/${client}:1`;
    const call = (args: readonly string[], input?: string) => run([...command, ...args], { env, ...(input === undefined ? {} : { input }) });
    await docker("tag", "busybox", name);
    expect((await call(["push", name])).stderr).toMatch(/denied|unauthorized/);
    expect((await call(["login", "-u", "me", "--password-stdin", tokens.host], "wrong")).stderr).toMatch(/incorrect username or password|unauthorized/);
    expect((await call(["login", "-u", "me", "--password-stdin", tokens.host], "s3cret")).stdout).toContain("Login Succeeded");
    expect(JSON.parse(readFileSync(config, "utf8"))).toMatchObject({ auths: { [tokens.host]: { identitytoken: "refresh-me" } } });
    server.requests.length = 0;
    expect((await call(["push", name])).stdout).toContain("digest: sha256:");
    expect(server.requests).toContainEqual({ method: "POST", user: "me", scopes: [`repository:public/${client}:pull,push`], grant: "refresh_token" });
    await docker("rmi", name);
    await call(["logout", tokens.host]);
    server.requests.length = 0;
    expect(await call(["pull", "-q", name])).toMatchObject({ code: 0, stdout: `${name}\n` });
    expect(server.requests.every(({ user }) => user === undefined)).toBe(true);
    // One for the manifest, and all blobs after it.
    expect(server.requests).toHaveLength(1);
  });

  test("a mount from another repository asks for both", async () => {
    await wherry("login", "-u", "me", "-p", "s3cret", tokens.host);
    await docker("tag", "busybox", `${tokens.host}/private/a:1`);
    await wherry("push", `${tokens.host}/private/a:1`);
    await docker("tag", "busybox", `${tokens.host}/private/b:1`);
    server.requests.length = 0;
    const pushed = await wherry("push", `${tokens.host}/private/b:1`);
    expect(pushed).toMatch(/Mounted from (private\/a|public\/)/);
    expect(server.requests.some(({ scopes }) => scopes.length === 2)).toBe(true);
  });

  test("search is the catalog where there is no other; with credentials", async () => {
    await wherry("login", "-u", "me", "-p", "s3cret:with/colon", basic.host);
    await docker("tag", "busybox", `${basic.host}/found/needle:1`);
    await docker("push", `${basic.host}/found/needle:1`);
    for (const call of [docker, wherry]) expect(await call("search", "--format", "{{.Name}}", `${basic.host}/needle`)).toBe("found/needle");
    expect((await run([wherryPath, "search", "--limit", "101", `${basic.host}/x`], { env })).stderr).toContain("limit 101 is outside the range of [1, 100]");
  });

  const noCompose = hasProgram("docker-compose") ? undefined : "no docker-compose";
  if (noCompose) console.warn(`registry-auth: compose: skipped: ${noCompose}`);
  test.skipIf(noCompose)("compose pulls with the credentials that docker's client has stored", async () => {
    const name = `${basic.host}/composed/box:1`;
    writeFileSync(join(work, "compose.yml"), `version: "3"\nservices:\n  box:\n    image: ${name}\n    network_mode: none\n    command: "true"\n`);
    const compose = (...args: string[]) => run(["docker-compose", "-p", "wtauth", "-f", join(work, "compose.yml"), ...args], { env });
    await docker("tag", "busybox", name);
    await docker("login", "-u", "me", "-p", "s3cret:with/colon", basic.host);
    await docker("push", name);
    await docker("rmi", name);
    expect(await compose("pull")).toMatchObject({ code: 0 });
    expect(await docker("images", "-q", name)).not.toBe("");
    await docker("rmi", name);
    await docker("logout", basic.host);
    expect((await compose("pull")).code).not.toBe(0);
  });

  test("testcontainers pulls with them", async () => {
    const name = `${basic.host}/contained/box:1`;
    await docker("tag", "busybox", name);
    await docker("login", "-u", "me", "-p", "s3cret:with/colon", basic.host);
    await docker("push", name);
    await docker("rmi", name);
    const job = fileURLToPath(new URL("testcontainers-pull.job.mjs", import.meta.url));
    const result = await run([process.execPath, job, name], { env: { ...env, TESTCONTAINERS_RYUK_DISABLED: "true" } });
    expect(result).toMatchObject({ code: 0, stdout: "fetched\n" });
  });

  describe("a credential helper, as a program", () => {
    const secrets = join(work, "secrets");
    beforeEach(() => {
      rmSync(secrets, { force: true });
      const program = `#!/bin/sh
read -r line
case $1 in
  store) printf '%s' "$line" >${secrets} ;;
  get) if [ -f ${secrets} ]; then cat ${secrets}; else echo "credentials not found in native keychain"; exit 1; fi ;;
  erase) rm -f ${secrets} ;;
esac
`;
      writeFileSync(join(bin, "docker-credential-wtest"), program);
      chmodSync(join(bin, "docker-credential-wtest"), 0o755);
    });

    test.each([
      { how: "for everything", setting: () => ({ credsStore: "wtest" }) },
      { how: "for one registry", setting: () => ({ credHelpers: { [basic.host]: "wtest" } }) },
    ])("$how: the secret is with it, not in the file; pull uses it; logout erases it", async ({ setting }) => {
      const other = { ...setting(), HttpHeaders: { "X-Kept": "as it is" } };
      writeFileSync(config, JSON.stringify(other));
      await wherry("login", "-u", "me", "-p", "s3cret:with/colon", basic.host);
      expect(JSON.parse(readFileSync(secrets, "utf8"))).toEqual({ ServerURL: basic.host, Username: "me", Secret: "s3cret:with/colon" });
      expect(JSON.parse(readFileSync(config, "utf8"))).toEqual({ ...other, auths: { [basic.host]: {} } });
      await docker("tag", "busybox", `${basic.host}/helper/box:1`);
      expect(await wherry("push", `${basic.host}/helper/box:1`)).toContain("digest: sha256:");
      // docker's client reads what ours has stored.
      expect(await docker("push", `${basic.host}/helper/box:1`)).toContain("Layer already exists");
      await wherry("logout", basic.host);
      expect(existsSync(secrets)).toBe(false);
    });

    test("one that is missing, and one that talks nonsense, are errors that say so", async () => {
      writeFileSync(config, JSON.stringify({ credsStore: "wmissing" }));
      const missing = await run([wherryPath, "pull", `${basic.host}/x`], { env });
      expect(missing).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('exec: "docker-credential-wmissing": executable file not found in $PATH') as string,
      });
      writeFileSync(join(bin, "docker-credential-wtest"), "#!/bin/sh\necho topsecret\n");
      writeFileSync(config, JSON.stringify({ credsStore: "wtest" }));
      const nonsense = await run([wherryPath, "pull", `${basic.host}/x`], { env });
      expect(nonsense.stderr).toContain("docker-credential-wtest does not answer with JSON");
      expect(nonsense.stderr).not.toContain("topsecret");
    });
  });

  test("on a terminal the password is asked for and not shown", async () => {
    const shell = terminal([wherryPath, "--config", join(work, "elsewhere"), "login", basic.host], { rows: 24, columns: 80, env });
    await shell.until("Username: ");
    shell.type("me\r");
    await shell.until("Password: ");
    shell.type("s3cret:with/colon\r");
    await shell.until("Login Succeeded");
    expect(await shell.exited).toBe(0);
    expect(shell.shown()).not.toContain("s3cret");
    expect(JSON.parse(readFileSync(join(work, "elsewhere/config.json"), "utf8"))).toHaveProperty(["auths", basic.host]);
  });

  test("a token server that fails, and one that is not there", async () => {
    server.broken = 403;
    try {
      const name = `${tokens.host}/public/docker:1`;
      const failed = await run(["docker", "pull", name], { env });
      expect(failed.code).toBe(1);
      expect(failed.stderr).toMatch(/denied/);
    } finally {
      server.broken = undefined;
    }
  });
});
