/**
 * Compose v2 (of a newer Debian suite, see scripts/fetch-cli-plugins.mjs): a project through its whole life, on wherry. It talks otherwise than
 * 1.29: newer API versions, networks in the create body, labels with hashes of its configuration, and events that it follows.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cliPlugin } from "./cli-plugin.ts";
import { hasProgram, TestDaemon, whyNot } from "./daemon.ts";
import { normal } from "./engines.ts";
import { busyboxArchive } from "./images.ts";
import { ok, run } from "./run.ts";

const plugin = cliPlugin("docker-compose");
const reason =
  whyNot() ?? (hasProgram("docker") ? undefined : "no docker client") ?? (plugin === undefined ? "no Compose v2 (scripts/fetch-cli-plugins.mjs)" : undefined);
if (reason) console.warn(`Compose v2: skipped: ${reason}`);

const loop = "while :; do sleep 0.1; done";
const file = `
services:
  store:
    image: busybox
    command: ["sh", "-c", "trap 'exit 0' TERM; echo store up; touch /data/ready; ${loop}"]
    volumes: ["data:/data"]
    restart: unless-stopped
    healthcheck: {test: ["CMD", "test", "-f", "/data/ready"], interval: 500ms, timeout: 5s, retries: 20}
    networks: [back]
  web:
    image: busybox
    command: ["sh", "-c", "trap 'exit 0' TERM; echo web $$GREETING; httpd -p 80 -h /www; ${loop}"]
    environment: {GREETING: hello}
    volumes: ["./www:/www:ro", "cache:/cache"]
    ports: ["127.0.0.1::80"]
    depends_on: {store: {condition: service_healthy}}
    networks: {back: {aliases: [site]}}
  worker:
    image: busybox
    command: ["sh", "-c", "trap 'exit 0' TERM; echo worker; ${loop}"]
    networks: [back]
    configs: [settings]
configs: {settings: {file: ./settings.txt}}
volumes: {data: {}, cache: {}}
networks: {back: {}}
`;

const job: readonly (readonly [does: string, ...args: string[]])[] = [
  ["up waits for health, scales", "up", "-d", "--scale", "worker=2", "--wait"],
  ["up again changes nothing", "up", "-d", "--scale", "worker=2"],
  ["ps", "ps", "--format", "{{.Service}} {{.State}} {{.Health}}"],
  ["ls", "ls", "--format", "json"],
  ["images", "images", "-q"],
  ["logs", "logs", "--no-color", "--no-log-prefix"],
  ["exec", "exec", "-T", "web", "sh", "-c", "echo $GREETING; wget -qO- http://127.0.0.1/; exit 3"],
  ["a config", "exec", "-T", "worker", "cat", "/settings"],
  ["names on its network", "exec", "-T", "worker", "sh", "-c", "wget -qO- http://site/"],
  ["cp", "cp", "web:/www/index.html", "-"],
  ["run", "run", "--rm", "-T", "worker", "echo", "one-off"],
  ["pause", "pause", "web"],
  ["ps of paused ones", "ps", "--format", "{{.Service}} {{.State}}", "web"],
  ["unpause", "unpause", "web"],
  ["restart", "restart", "-t", "3", "worker"],
  ["kill", "kill", "-s", "KILL", "web"],
  ["ps of all", "ps", "-a", "--format", "{{.Service}} {{.State}} {{.ExitCode}}"],
  ["start", "start", "web"],
  ["scale down", "up", "-d", "--scale", "worker=1"],
  ["stop", "stop", "-t", "3"],
  ["rm", "rm", "-f", "worker"],
  ["down", "down", "-v", "-t", "3"],
];

describe.skipIf(reason !== undefined)(`Compose v2${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const daemon = new TestDaemon();
  const work = mkdtempSync(join(tmpdir(), "wt-compose2-"));
  const directory = join(work, "shop");
  beforeAll(async () => {
    await daemon.start();
    await ok(["docker", "load", "-q", "-i", busyboxArchive(work).path], { env: { DOCKER_HOST: daemon.host } });
    mkdirSync(join(directory, "www"), { recursive: true });
    writeFileSync(join(directory, "compose.yaml"), file);
    writeFileSync(join(directory, "www/index.html"), "the page\n");
    writeFileSync(join(directory, "settings.txt"), "a setting\n");
  });
  afterAll(async () => {
    expect(await daemon.stop()).toEqual([]);
    rmSync(work, { recursive: true, force: true });
  });

  /** What its user sees: exit codes, what it prints for programs. Progress goes to standard error, in no order. */
  const perform = async (host: string): Promise<Record<string, unknown>> => {
    const seen: Record<string, unknown> = {};
    const env = { DOCKER_HOST: host, COMPOSE_ANSI: "never", COMPOSE_PROGRESS: "quiet" };
    for (const [does, ...args] of job) {
      const { code, stdout, stderr } = await run([plugin!, "-p", "shop", "--project-directory", directory, ...args], { env, timeoutMs: 90_000 });
      const lines = normal(stripVTControlCharacters(stdout).replaceAll(directory, "<directory>"))
        .split("\n")
        .filter((line) => line.trim() !== "");
      seen[does] = [code, ...(does === "cp" ? [stdout.includes("the page")] : lines.sort()), ...(code > 3 ? [stderr] : [])];
    }
    const left = async (...args: string[]) => (await run(["docker", ...args], { env: { DOCKER_HOST: host } })).stdout;
    seen["left"] = [await left("ps", "-aq"), await left("volume", "ls", "-q"), await left("network", "ls", "--filter", "type=custom", "-q")];
    return seen;
  };

  test("the project runs, and shows its user what it should", { timeout: 600_000 }, async () => {
    const ours = await perform(daemon.host);
    expect(ours).toMatchObject({
      "up waits for health, scales": [0],
      ps: [0, "store running healthy", "web running", "worker running", "worker running"].map((line) =>
        typeof line === "string" ? expect.stringContaining(line) : line,
      ),
      logs: [0, "store up", "web hello", "worker", "worker"],
      exec: [3, "hello", "the page"],
      "a config": [0, "a setting"],
      "names on its network": [0, "the page"],
      cp: [0, true],
      run: [0, "one-off"],
      down: [0],
      left: ["", "", ""],
    });
    for (const [does, [code]] of Object.entries(ours) as [string, [number]][]) if (does !== "exec" && does !== "left") expect(code, does).toBe(0);
  });
});
