/**
 * What buildx brings along and asks for elsewhere (root): caches in registries, in directories of its own and in images; registries that ask who is there; its SSH agent.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { contextsIn, enginesToBuildOn } from "./building.ts";
import { cliPlugin, installPlugins } from "./cli-plugin.ts";
import { hasProgram, TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { DockerRegistry } from "./registry.ts";
import { ok, type Result, run } from "./run.ts";

const buildx = cliPlugin("docker-buildx");
const reason =
  whyNot() ??
  DockerRegistry.missing ??
  (buildx === undefined ? "no docker-buildx (scripts/fetch-cli-plugins.mjs)" : hasProgram("htpasswd") ? undefined : "no htpasswd");
if (reason) console.warn(`buildkit-elsewhere: skipped: ${reason}`);

describe.skipIf(reason !== undefined)(`what buildx has elsewhere${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const { work, engines } = enginesToBuildOn("wt-bkelse-", [new TestDaemon(), new TestDaemon()]);
  const config = join(work, "docker-config");
  let open: DockerRegistry;
  let closed: DockerRegistry;

  beforeAll(async () => {
    installPlugins(config, buildx);
    writeFileSync(join(work, "htpasswd"), execFileSync("htpasswd", ["-Bbn", "me", "s3cret"]));
    open = await DockerRegistry.start(join(work, "open"));
    closed = await DockerRegistry.start(join(work, "closed"), { auth: ["htpasswd:", "  realm: closed", `  path: ${join(work, "htpasswd")}`] });
  });

  afterAll(async () => {
    await Promise.all([open.stop(), closed.stop()]);
  });

  const context = contextsIn(work);
  const envOf = (engine: TestDaemon) => ({ DOCKER_HOST: engine.host, DOCKER_CONFIG: config, WHERRY_HOST: engine.host, BUILDX_NO_DEFAULT_ATTESTATIONS: "1" });
  const build = (engine: TestDaemon, ...args: string[]): Promise<Result> =>
    run([buildx!, "build", "--progress=plain", "--network=none", ...args], { env: envOf(engine) });
  const wherry = (engine: TestDaemon, ...args: string[]) => run([wherryPath, ...args], { env: envOf(engine) });
  /** As an engine that has never built anything. */
  const forget = async (engine: TestDaemon) => {
    await wherry(engine, "builder", "prune", "-af");
    await wherry(engine, "image", "prune", "-f");
  };
  const cached = ({ stderr }: Result) => stderr.match(/ CACHED$/gm)?.length ?? 0;
  const logins = (auths: object) => writeFileSync(join(config, "config.json"), JSON.stringify({ auths }));
  const me = { auth: Buffer.from("me:s3cret").toString("base64") };

  const project = {
    Dockerfile: "FROM busybox AS made\nCOPY in /in\nRUN sha256sum </in >/out\nFROM busybox\nCOPY --from=made /out /out\nRUN wc -c </out >/count\n",
    in: "one\n",
  };

  test.each([
    ["registry", () => [`type=registry,ref=${open.host}/caches:a,mode=max`, `type=registry,ref=${open.host}/caches:a`]],
    ["an image's name alone", () => [`${open.host}/caches:b`, `${open.host}/caches:b`]],
    ["directory", () => [`type=local,dest=${join(work, "cache")},mode=max`, `type=local,src=${join(work, "cache")}`]],
    ["directory with a tag", () => [`type=local,dest=${join(work, "cache")},tag=other,mode=max`, `type=local,src=${join(work, "cache")},tag=other`]],
  ])("a cache goes out and comes in: %s", async (what, flags) => {
    const folder = context({ ...project, in: `of its own: ${what}\n` });
    const [to = "", from = ""] = flags();
    const out = await build(engines[0], "--cache-to", to, folder);
    expect(out).toMatchObject({ code: 0 });
    expect(out.stderr).toMatch(/exporting cache to (registry|client directory)/);
    await forget(engines[1]);
    const back = await build(engines[1], "--cache-from", from, folder);
    expect(back).toMatchObject({ code: 0 });
    expect(back.stderr).toMatch(/importing cache manifest from/);
    expect(cached(back)).toBe(to.includes("mode=max") ? 4 : 2);
    // Ours reads it as well.
    await forget(engines[1]);
    const ours = await wherry(engines[1], "build", "--network", "none", "--progress", "plain", "--cache-from", from, folder);
    expect(ours.stderr.match(/ CACHED$/gm)).toHaveLength(to.includes("mode=max") ? 4 : 2);
  });

  test("a cache of ours answers buildx; a damaged one does not, and the build goes on", async () => {
    const folder = context({ ...project, in: "ours\n" });
    const cache = join(work, "ours");
    expect(await wherry(engines[0], "build", "--network", "none", "--cache-to", `type=local,dest=${cache},mode=max`, folder)).toMatchObject({ code: 0 });
    await forget(engines[1]);
    expect(cached(await build(engines[1], "--cache-from", `type=local,src=${cache}`, folder))).toBe(4);
    for (const blob of readdirSync(join(cache, "blobs/sha256"))) {
      const path = join(cache, "blobs/sha256", blob);
      const whole = readFileSync(path);
      writeFileSync(path, whole.subarray(0, 20));
      await forget(engines[1]);
      const damaged = await build(engines[1], "--cache-from", `type=local,src=${cache}`, folder);
      expect(damaged).toMatchObject({ code: 0 });
      expect(cached(damaged)).toBeLessThan(4);
      writeFileSync(path, whole);
    }
  });

  test("an image with its cache in it", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nRUN echo inline >/inline\n" });
    const name = `${open.host}/inline:1`;
    expect(await build(engines[0], "-t", name, "--push", "--cache-to", "type=inline", folder)).toMatchObject({ code: 0 });
    await forget(engines[1]);
    expect(cached(await build(engines[1], "--cache-from", name, folder))).toBe(1);
  });

  test("caches of services: an export is refused, an import is a step that fails, in BuildKit's words", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nRUN true\n" });
    const attributes = "account_url=https://127.0.0.1:1,name=x,secret_access_key=y";
    expect(await build(engines[0], "--cache-to", `type=azblob,${attributes}`, folder)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('unknown cache exporter: "azblob"') as string,
    });
    const imported = await build(engines[0], "--cache-from", `type=azblob,${attributes}`, folder);
    expect(imported).toMatchObject({ code: 0 });
    expect(imported.stderr).toMatch(/ERROR: unknown cache importer: azblob/);
    const nowhere = await build(engines[0], "--cache-from", `${open.host}/nothing:1`, context({ Dockerfile: "FROM busybox\nRUN echo nothing\n" }));
    expect(nowhere).toMatchObject({ code: 0 });
    expect(nowhere.stderr).toMatch(/importing cache manifest from \S+nothing:1[\s\S]*ERROR: .*not found/);
  });

  test("a registry that asks who is there: push=true, FROM and caches go with what the client knows", async () => {
    const folder = context({ Dockerfile: "FROM busybox\nRUN echo private >/word\n" });
    const name = `${closed.host}/private:1`;
    logins({});
    const refused = await build(engines[0], "-t", name, "--push", folder);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/pushing \S+private:1[\s\S]*(unauthorized|authentication required|no basic auth)/);
    logins({ [closed.host]: { auth: Buffer.from("me:wrong").toString("base64") } });
    expect((await build(engines[0], "-t", name, "--push", folder)).code).toBe(1);
    logins({ [closed.host]: me });
    const pushed = await build(engines[0], "-t", name, "--push", "--cache-to", `type=registry,ref=${closed.host}/private:cache`, folder);
    expect(pushed).toMatchObject({ code: 0 });
    // Nothing of it stays at the engine.
    expect((await run(["grep", "-rlsF", me.auth, engines[0].dataRoot, engines[0].execRoot])).stdout).toBe("");
    const child = context({ Dockerfile: `FROM ${name}\nRUN cat /word\n` });
    logins({});
    expect((await build(engines[1], child)).stderr).toMatch(/pull access denied|unauthorized|authentication required/);
    logins({ [closed.host]: me });
    expect((await build(engines[1], child)).stderr).toMatch(/ private$/m);
    await forget(engines[1]);
    expect(cached(await build(engines[1], "--cache-from", `${closed.host}/private:cache`, folder))).toBe(1);
    logins({});
  });

  test.skipIf(!hasProgram("ssh-agent") || !hasProgram("gcc"))(
    "--ssh default: the client's agent answers in the step, and no step without the mount sees it",
    async () => {
      const source = `
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(void) {
  struct sockaddr_un at = { .sun_family = AF_UNIX };
  const char *path = getenv("SSH_AUTH_SOCK");
  if (path == NULL) { puts("no agent"); return 0; }
  strncpy(at.sun_path, path, sizeof at.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(fd, (void *)&at, sizeof at) != 0) { perror("connect"); return 1; }
  const unsigned char ask[] = { 0, 0, 0, 1, 11 }; /* SSH_AGENTC_REQUEST_IDENTITIES */
  if (write(fd, ask, sizeof ask) != sizeof ask) return 1;
  char answer[4096];
  ssize_t got = 0, more;
  while (got < 9 || got < 4 + (unsigned char)answer[2] * 256 + (unsigned char)answer[3]) {
    more = read(fd, answer + got, sizeof answer - got);
    if (more <= 0) break;
    got += more;
  }
  for (ssize_t i = 0; i + 9 <= got; i++) if (memcmp(answer + i, "my-ssh-id", 9) == 0) { puts("agent knows my-ssh-id"); return 0; }
  puts("agent without it");
  return 1;
}
`;
      const folder = context({ "ask.c": source, Dockerfile: "FROM busybox\nCOPY ask /ask\nRUN --mount=type=ssh /ask\nRUN /ask\n" });
      await ok(["gcc", "-static", "-O1", "-o", join(folder, "ask"), join(folder, "ask.c")]);
      const socket = join(work, "agent.sock");
      const agent = spawnSync("ssh-agent", ["-a", socket], { encoding: "utf8" }).stdout;
      const pid = Number(/SSH_AGENT_PID=(\d+)/.exec(agent)?.[1]);
      try {
        const key = join(work, "id");
        await ok(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "my-ssh-id", "-f", key]);
        await ok(["ssh-add", key], { env: { SSH_AUTH_SOCK: socket } });
        const built = await run([buildx!, "build", "--progress=plain", "--network=none", "--ssh", "default", folder], {
          env: { ...envOf(engines[0]), SSH_AUTH_SOCK: socket },
        });
        expect(built).toMatchObject({ code: 0 });
        expect(built).toMatchObject({ code: 0 });
        expect(built.stderr).toMatch(/ agent knows my-ssh-id$/m);
        expect(built.stderr).toMatch(/ no agent$/m);
      } finally {
        process.kill(pid);
      }
    },
  );
});
