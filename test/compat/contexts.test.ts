/** Which daemon `wherry` speaks to: contexts that it shares with docker, TLS, ssh by a program of that name; and what completes its command lines. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { certificates, freePort } from "./certificates.ts";
import { hasProgram, TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { busyboxArchive } from "./images.ts";
import { eventually, ok, run } from "./run.ts";

const reason = whyNot() ?? (hasProgram("docker") ? undefined : "no docker client") ?? (hasProgram("openssl") ? undefined : "no openssl");
if (reason) console.warn(`contexts: skipped: ${reason}`);

describe.skipIf(reason !== undefined)(`contexts${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const work = mkdtempSync(join(tmpdir(), "wt-ctx-"));
  const pem = (name: string): string => join(work, `${name}.pem`);
  const env = { DOCKER_CONFIG: join(work, "config"), HOME: work };
  let daemon: TestDaemon;
  let tcp: string;

  beforeAll(async () => {
    certificates(work);
    tcp = `tcp://127.0.0.1:${await freePort()}`;
    daemon = new TestDaemon({ args: ["--host", tcp, "--tlsverify", "--tlscacert", pem("ca"), "--tlscert", pem("server"), "--tlskey", pem("server-key")] });
    await daemon.start();
    await ok([wherryPath, "-H", daemon.host, "load", "-q", "-i", busyboxArchive(work).path]);
  });
  afterAll(async () => {
    expect(await daemon.stop()).toEqual([]);
    rmSync(work, { recursive: true, force: true });
  });

  const wherry = (...args: string[]) => ok([wherryPath, ...args], { env });
  const docker = (...args: string[]) => ok(["docker", ...args], { env });

  test("docker and wherry share contexts: made by one, used by the other, exported, imported, removed", async () => {
    expect(await wherry("context", "create", "near", "--description", "a socket", "--docker", `host=${daemon.host}`)).toBe("near");
    expect(await docker("context", "ls", "--format", "{{.Name}} {{.Description}} {{.DockerEndpoint}}")).toContain(`near a socket ${daemon.host}`);
    expect(await wherry("--context", "near", "images", "-q")).toBe(await ok([wherryPath, "-H", daemon.host, "images", "-q"]));
    await docker("context", "create", "tls", "--docker", `host=${tcp},ca=${pem("ca")},cert=${pem("client")},key=${pem("client-key")}`);
    expect(await wherry("-c", "tls", "run", "--rm", "busybox", "echo", "hi")).toBe("hi");
    for (const name of ["near", "tls"]) {
      const [ours, theirs] = [await wherry("context", "inspect", name), await docker("context", "inspect", name)];
      expect(JSON.parse(ours)).toEqual(JSON.parse(theirs));
    }
    expect(await wherry("context", "use", "tls")).toBe("tls");
    expect(await docker("context", "show")).toBe("tls");
    expect(await docker("version", "--format", "{{.Server.Version}}")).toBe(await wherry("version", "--format", "{{.Server.Version}}"));
    expect(await ok([wherryPath, "context", "show"], { env: { ...env, DOCKER_CONTEXT: "near" } })).toBe("near");
    const archive = join(work, "tls.tar");
    await wherry("context", "export", "tls", archive);
    await docker("context", "import", "again", archive);
    expect(await wherry("--context", "again", "images", "-q")).not.toBe("");
    await docker("context", "export", "near", join(work, "near.tar"));
    await wherry("context", "import", "near2", join(work, "near.tar"));
    await wherry("context", "update", "near2", "--description", "changed");
    expect(JSON.parse(await docker("context", "inspect", "near2"))).toMatchObject([{ Metadata: { Description: "changed" } }]);
    const inUse = await run([wherryPath, "context", "rm", "tls"], { env });
    expect([inUse.code, inUse.stderr]).toEqual([1, expect.stringContaining('context "tls" is in use, set -f flag to force remove')]);
    await wherry("context", "rm", "-f", "tls", "again", "near", "near2");
    expect(await docker("context", "ls", "-q")).toBe("default");
    const unknown = await run([wherryPath, "--context", "none", "ps"], { env });
    expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringContaining('context "none": context not found')]);
    const both = await run([wherryPath, "--context", "x", "-H", daemon.host, "ps"], { env });
    expect(both.stderr).toContain("conflicting options: cannot specify both --host and --context");
  });

  test("TLS by flags and by environment; without a certificate nobody gets in", async () => {
    const flags = ["--tlsverify", "--tlscacert", pem("ca"), "--tlscert", pem("client"), "--tlskey", pem("client-key")];
    const version = () => run([wherryPath, "-H", tcp, ...flags, "version", "-f", "{{.Server.Version}}"], { env });
    expect((await eventually(version, ({ code }) => code === 0)).stdout).toMatch(/^\d/);
    const certs = join(work, "certs");
    await ok([
      "sh",
      "-c",
      `mkdir ${certs} && cp ${pem("ca")} ${certs}/ca.pem && cp ${pem("client")} ${certs}/cert.pem && cp ${pem("client-key")} ${certs}/key.pem`,
    ]);
    const byEnv = { ...env, DOCKER_HOST: tcp, DOCKER_TLS_VERIFY: "1", DOCKER_CERT_PATH: certs };
    expect(await ok([wherryPath, "run", "-i", "--rm", "busybox", "cat"], { env: byEnv, input: "over TLS\n" })).toBe("over TLS");
    const bare = await run([wherryPath, "-H", tcp, "--tls", "--tlscacert", pem("ca"), "version"], { env });
    expect(bare.code).not.toBe(0);
    const plain = await run([wherryPath, "-H", tcp, "ps"], { env });
    expect(plain.code).not.toBe(0);
  });

  test("ssh: `system dial-stdio` on the other side carries lists, streams and half-closed input; what ssh says is told", async () => {
    const bin = join(work, "bin");
    await ok(["mkdir", bin]);
    // ssh as it is called: options, --, host, command. This one stays here.
    writeFileSync(
      join(bin, "ssh"),
      `#!/bin/sh\necho "$@" >> ${work}/ssh.log\nwhile [ "$1" != -- ]; do shift; done\n[ "$2" = build.example ] || { echo "ssh: Could not resolve hostname $2" >&2; exit 255; }\nshift 3\nexec ${wherryPath} -H ${daemon.host} "$@"\n`,
    );
    chmodSync(join(bin, "ssh"), 0o755);
    const path = { ...env, PATH: `${bin}:${process.env["PATH"]}` };
    const remote = (args: string[], input?: string) =>
      ok([wherryPath, "-H", "ssh://me@build.example:2222", ...args], { env: path, ...(input === undefined ? {} : { input }) });
    expect(await remote(["images", "-q"])).not.toBe("");
    expect(await remote(["run", "-i", "--rm", "busybox", "sh", "-c", "cat; echo end"], "some input\n")).toBe("some input\nend");
    expect(await ok(["cat", join(work, "ssh.log")])).toMatch(/^-o ConnectTimeout=30 -T -l me -p 2222 -- build\.example wherry system dial-stdio$/m);
    expect(await ok(["docker", "-H", "ssh://build.example", "run", "-i", "--rm", "busybox", "cat"], { env: path, input: "docker's\n" })).toBe("docker's");
    const wrong = await run([wherryPath, "-H", "ssh://nowhere.example", "ps"], { env: path });
    expect(wrong.code).not.toBe(0);
    expect(wrong.stderr).toContain("ssh: Could not resolve hostname nowhere.example");
    const option = await run([wherryPath, "-H", "ssh://-oProxyCommand=touch", "ps"], { env: path });
    expect(option.stderr).toContain("unable to parse docker host");
  });

  test("completion: commands, flags, values and names, by bash itself", async () => {
    await ok([wherryPath, "-H", daemon.host, "run", "-d", "--name", "webserver", "busybox", "sleep", "1000"]);
    const complete = (line: string) => {
      const words = line.split(" ").map((word) => `'${word}'`);
      const script = `source <(wherry completion bash); COMP_WORDS=(${words.join(" ")}); COMP_CWORD=${words.length - 1}; _wherry; printf '%s\\n' "\${COMPREPLY[@]}"`;
      return ok(["bash", "-c", script], { env: { ...env, WHERRY_HOST: daemon.host, PATH: `${dirname(wherryPath)}:${process.env["PATH"]}` } });
    };
    expect((await complete("wherry ren")).split("\n")).toEqual(["rename"]);
    expect((await complete("wherry volume c")).split("\n")).toEqual(["clone", "create"]);
    expect((await complete("wherry run --health-h")).split("\n")).toEqual(["--health-http"]);
    expect((await complete("wherry run --log-driver j")).split("\n")).toEqual(["json-file", "journald"]);
    expect((await complete("wherry stop web")).split("\n")).toEqual(["webserver"]);
    expect((await complete("wherry run busy")).split("\n")).toEqual(["busybox:latest"]);
    expect((await complete("wherry network inspect b")).split("\n")).toEqual(["bridge"]);
    expect(await complete("wherry cpp x")).toBe("");
    await ok([wherryPath, "-H", daemon.host, "rm", "-f", "webserver"]);
  });

  test("prune --dry-run says what prune does, and does nothing", async () => {
    const at = (...args: string[]) => ok([wherryPath, "-H", daemon.host, ...args]);
    await at("run", "--name", "done", "-v", "/anon", "busybox", "true");
    await at("network", "create", "unused");
    await at("volume", "create", "named");
    const containers = await at("container", "prune", "--dry-run");
    expect(containers).toMatch(/^Would delete containers:\n[0-9a-f]{12} done \(Exited \(0\).*\)\n\nTotal reclaimable space: 0B$/);
    expect(await at("system", "prune", "--dry-run", "--volumes")).toMatch(/Would delete containers:\n.*\n\nWould delete networks:\nunused\n/);
    expect(await at("volume", "prune", "-a", "--dry-run")).toContain("named\n");
    expect(await at("volume", "prune", "--dry-run")).not.toContain("named");
    expect(await at("ps", "-aq")).not.toBe("");
    await at("rm", "-v", "done");
    await at("network", "rm", "unused");
    await at("volume", "rm", "named");
  });
});
