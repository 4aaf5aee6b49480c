/**
 * docker-compose 1.29 (Debian): a project of three services through its whole life, on wherry and beside it on dockerd 20.10. What compose prints and
 * what its containers see must be the same.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasProgram, whyNot } from "./daemon.ts";
import { type Engines, type EngineUnderTest, normal, startEngines } from "./engines.ts";
import { run } from "./run.ts";

const reason = whyNot() ?? (hasProgram("docker-compose") ? undefined : "no docker-compose") ?? (hasProgram("docker") ? undefined : "no docker client");
if (reason) console.warn(`compose: skipped: ${reason}`);

/** No service finds another by its name here: that is the engine's DNS, and has tests of its own. */
const file = `
version: "2.4"
services:
  store:
    image: busybox
    command: ["sh", "-c", "trap 'exit 0' TERM; echo store up; touch /data/ready; while :; do sleep 0.1; done"]
    volumes: ["data:/data"]
    restart: unless-stopped
    healthcheck: {test: ["CMD", "test", "-f", "/data/ready"], interval: 1s, timeout: 2s, retries: 10}
    networks: [back]
  web:
    image: busybox
    command: ["sh", "-c", "trap 'exit 0' TERM; echo web $$GREETING; httpd -p 80 -h /www; while :; do sleep 0.1; done"]
    environment: {GREETING: hello, EMPTY: "", FROM_FILE: "\${ADDRESSEE}"}
    volumes: ["./www:/www:ro", "cache:/cache"]
    ports: ["127.0.0.1::80"]
    depends_on: {store: {condition: service_healthy}}
    networks: {back: {aliases: [site]}}
    labels: {org.example.role: front}
    mem_limit: 64m
  worker:
    image: busybox
    command: ["sh", "-c", "trap 'exit 0' TERM; cat /data/ready && echo worker sees data; while :; do sleep 0.1; done"]
    volumes: ["data:/data:ro"]
    depends_on: {store: {condition: service_healthy}}
    networks: [back]
    user: "65534"
    working_dir: /tmp
    stop_grace_period: 5s
    tmpfs: [/scratch]
volumes: {data: {}, cache: {labels: {org.example.keep: "no"}}}
networks: {back: {driver: bridge}}
`;

interface Step {
  readonly does: string;
  readonly command: readonly string[];
}

const compose = (...args: string[]): readonly string[] => ["docker-compose", "--no-ansi", "-p", "shop", ...args];
const docker = (...args: string[]): readonly string[] => ["docker", ...args];

const job: readonly Step[] = [
  { does: "the file is understood", command: compose("config", "-q") },
  { does: "up waits for health, scales", command: compose("up", "-d", "--scale", "worker=3") },
  { does: "up again changes nothing", command: compose("up", "-d", "--scale", "worker=3") },
  { does: "ps", command: compose("ps") },
  { does: "ps of services", command: compose("ps", "--services", "--filter", "status=running") },
  { does: "images", command: compose("images") },
  { does: "logs", command: compose("logs", "--no-color") },
  { does: "tail of logs", command: compose("logs", "--no-color", "--tail", "1", "web") },
  {
    does: "exec",
    command: compose("exec", "-T", "web", "sh", "-c", "env | grep -E 'GREETING|EMPTY|FROM_FILE' | sort; wget -qO- http://127.0.0.1/; id -u; exit 3"),
  },
  { does: "exec as another user", command: compose("exec", "-T", "-u", "nobody", "-e", "A=b", "worker", "sh", "-c", "id -u; pwd; echo $A") },
  { does: "exec in the third worker", command: compose("exec", "-T", "--index", "3", "worker", "cat", "/data/ready") },
  { does: "port", command: compose("port", "web", "80") },
  { does: "top", command: compose("top", "store") },
  { does: "pause", command: compose("pause", "worker") },
  { does: "ps of paused ones", command: compose("ps", "worker") },
  { does: "unpause", command: compose("unpause", "worker") },
  { does: "a one-off run", command: compose("run", "--rm", "-T", "worker", "sh", "-c", "ls /data; exit 4") },
  { does: "restart", command: compose("restart", "-t", "3", "worker") },
  { does: "kill", command: compose("kill", "-s", "KILL", "web") },
  { does: "ps of killed ones", command: compose("ps", "web") },
  { does: "start", command: compose("start", "web") },
  { does: "scale down", command: compose("up", "-d", "--scale", "worker=1") },
  { does: "a changed configuration is recreated", command: compose("-f", "docker-compose.yml", "-f", "changed.yml", "up", "-d", "--scale", "worker=1") },
  {
    does: "what the engine says of it",
    command: docker(
      "ps",
      "-a",
      "--filter",
      "label=com.docker.compose.project=shop",
      "--format",
      '{{.Names}} {{.Image}} {{.State}} {{.Networks}} {{.Label "org.example.role"}}',
    ),
  },
  { does: "volumes", command: docker("volume", "ls", "--filter", "label=com.docker.compose.project=shop", "--format", "{{.Name}} {{.Driver}}") },
  {
    does: "network",
    command: docker("network", "inspect", "shop_back", "--format", '{{.Driver}} {{len .Containers}} {{index .Labels "com.docker.compose.network"}}'),
  },
  { does: "stop", command: compose("stop", "-t", "3") },
  { does: "exit codes", command: docker("ps", "-a", "--filter", "exited=0", "--filter", "label=com.docker.compose.project=shop", "--format", "{{.Names}}") },
  { does: "rm", command: compose("rm", "-f", "worker") },
  { does: "down", command: compose("down", "-v", "-t", "3") },
  { does: "nothing is left", command: docker("volume", "ls", "-q") },
  { does: "no network is left", command: docker("network", "ls", "--filter", "type=custom", "-q") },
];

/** What was seen, in words that do not differ between two runs. Lines of things that go in parallel have no order. */
function seen({ does }: Step, result: { readonly code: number; readonly stdout: string; readonly stderr: string }): string[] {
  const text = normal(`${result.stdout}${result.stderr}`)
    .replace(/^\S+\s+\d+\s+\d+\s+\d+\s+\S+\s+\S+\s+\S+\s+/gm, "<process> ")
    .replace(/127\.0\.0\.1:\d+/g, "127.0.0.1:<port>")
    .replace(/_run_[0-9a-f]+/g, "_run_<n>")
    .replace(/Up \d+ seconds|Up Less than a second/g, "Up")
    .replace(/[ \t]+/g, " ")
    .replace(/-{5,}/g, "---")
    .replace(/Attaching to .*/g, (names) => names.split(/[ ,]+/).sort().join(" "));
  const lines = text
    .split("\n")
    .map((line) => line.trim())
    // The service's loop may just be between two of them.
    .filter((line) => line !== "" && line !== "<process> sleep 0.1");
  return [`${does}: exit ${result.code}`, ...lines.sort()];
}

describe.skipIf(reason !== undefined)(`docker-compose 1.29${reason ? ` (skipped: ${reason})` : ""}`, () => {
  let engines: Engines;
  let directory: string;

  beforeAll(async () => {
    engines = await startEngines("wt-compose-");
    directory = join(engines.work, "shop");
    mkdirSync(join(directory, "www"), { recursive: true });
    writeFileSync(join(directory, "www/index.html"), "the page\n");
    writeFileSync(join(directory, "docker-compose.yml"), file);
    writeFileSync(join(directory, "changed.yml"), 'version: "2.4"\nservices: {web: {environment: {GREETING: changed}}}\n');
    writeFileSync(join(directory, ".env"), "ADDRESSEE=world\n");
  });

  afterAll(async () => {
    expect(await engines.stop()).toEqual([]);
  });

  const perform = async ({ host }: EngineUnderTest): Promise<Map<string, string[]>> => {
    const all = new Map<string, string[]>();
    for (const step of job) {
      const result = await run(["sh", "-c", 'cd "$0" && exec "$@"', directory, ...step.command], { env: { DOCKER_HOST: host }, timeoutMs: 60_000 });
      all.set(step.does, seen(step, result));
    }
    return all;
  };

  test("the project runs, and shows its user what it shows on dockerd", { timeout: 240_000 }, async () => {
    const [ours, theirs] = await Promise.all([perform(engines.wherry), engines.dockerd === undefined ? undefined : perform(engines.dockerd)]);
    const line = (does: string, part: string) => expect(ours.get(does)!.join("\n")).toContain(part);
    line("up waits for health, scales", "exit 0");
    line("exec", "the page");
    line("exec", "FROM_FILE=world");
    line("a one-off run", "exit 4");
    line("nothing is left", "exit 0");
    if (theirs !== undefined) expect(Object.fromEntries(ours)).toEqual(Object.fromEntries(theirs));
  });
});
