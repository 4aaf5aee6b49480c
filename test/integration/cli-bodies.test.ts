/** What `create`, `run`, `exec` … send for a command line is what docker's CLI sends. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createHttpClient } from "#api/client/http.ts";
import { testIo } from "#cli/io.fixture.ts";
import { main } from "#cli/main.ts";
import { type FakeDaemon, Reply, startFakeDaemon } from "./cli-fake-daemon.fixture.ts";
import { dockerCli } from "./docker-cli.fixture.ts";

const id = "f".repeat(64);
const environment = { PATH: process.env["PATH"] ?? "", FROM_HOST: "host value", HOME: "/nonexistent" };

/** Nothing, false, zero and empty mean the same in these bodies. */
function withoutBlanks(value: unknown): unknown {
  if (Array.isArray(value)) return value.length === 0 ? undefined : value.map((item) => withoutBlanks(item) ?? item);
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value)
      .map(([key, item]) => [key, withoutBlanks(item)] as const)
      .filter(([, item]) => item !== undefined);
    return entries.length === 0 ? undefined : Object.fromEntries(entries);
  }
  return value === null || value === "" || value === 0 || value === false ? undefined : value;
}

/** Go writes lists that come from a map in any order; -1 is docker's "swappiness not set". */
function comparable(body: unknown): unknown {
  const copy = structuredClone(body) as {
    HostConfig?: Record<string, unknown>;
    Env?: string[];
    Volumes?: Record<string, unknown>;
    ExposedPorts?: Record<string, unknown>;
  };
  const host = copy.HostConfig;
  if (host?.["MemorySwappiness"] === -1) delete host["MemorySwappiness"];
  delete host?.["WherryBoundLog"]; // ours: docs/compat.md, logs of our own command line
  // Where published ports are bound that name no address: docker leaves it to the daemon.
  if (host !== undefined) delete host["WherryPublishHost"];
  if (Array.isArray(copy.Env)) copy.Env.sort();
  for (const list of ["Binds", "Ulimits"])
    if (Array.isArray(host?.[list])) host[list] = (host[list] as unknown[]).map((item) => JSON.stringify(sorted(item))).sort();
  // Empty objects are values here: the key says it all.
  for (const set of ["Volumes", "ExposedPorts"] as const) if (copy[set]) copy[set] = Object.fromEntries(Object.keys(copy[set]).map((key) => [key, "set"]));
  return withoutBlanks(copy);
}

function sorted(item: unknown): unknown {
  if (typeof item !== "object" || item === null) return item;
  return Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)));
}

const commandLines: readonly (readonly string[])[] = [
  ["busybox"],
  ["busybox", "echo", "-n", "hi", "--rm"],
  ["-i", "busybox", "cat"],
  ["-a", "stdout", "busybox"],
  ["-a", "STDIN", "-a", "stderr", "busybox"],
  ["--name", "box", "-h", "host", "--domainname", "example.org", "-u", "1000:1000", "-w", "/work", "busybox"],
  ["-e", "A=b", "-e", "FROM_HOST", "-e", "NOT_THERE", "-e", "EMPTY=", "busybox"],
  ["--env-file", "{dir}/env", "-e", "A=flag", "busybox"],
  ["-l", "a=b", "-l", "c", "--label-file", "{dir}/labels", "busybox"],
  ["--entrypoint", "/bin/sh", "busybox", "-c", "true"],
  ["--entrypoint=", "busybox", "true"],
  ["-v", "/data", "-v", "/srv:/srv:ro", "-v", "name:/vol", "busybox"],
  ["-v", "./sub:/sub", "-v", ".:/here", "busybox"],
  ["--tmpfs", "/run:size=64m,mode=755", "--tmpfs", "/tmp", "busybox"],
  ["--mount", "type=bind,source=/srv,target=/srv,readonly,bind-propagation=rslave", "busybox"],
  ["--mount", "type=volume,src=v,dst=/v,volume-nocopy,volume-label=a=b,volume-driver=local,volume-opt=type=tmpfs,volume-subpath=x", "busybox"],
  ["--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770", "--mount", "dst=/anonymous", "busybox"],
  ["--mount", "type=bind,src=./sub,dst=/sub,bind-recursive=disabled", "busybox"],
  ["--mount", '"type=bind","src=/a,b",dst=/x,ro,bind-recursive=writable', "busybox"],
  ["-p", "8080:80", "-p", "127.0.0.1:53:53/udp", "-p", "90", "-p", "[::1]:81:81", "busybox"],
  ["-p", "3000-3002:4000-4002", "-p", "7000-7010:7000", "--expose", "9000-9001/udp", "--expose", "10", "-P", "busybox"],
  ["-p", "published=8081,target=81,protocol=tcp", "busybox"],
  ["-m", "64m", "--memory-swap", "128m", "--memory-reservation", "32MiB", "--memory-swappiness", "10", "busybox"],
  ["--memory-swap", "-1", "-m", "1.5g", "--oom-kill-disable", "--oom-score-adj", "-500", "busybox"],
  ["--cpus", "1.5", "-c", "512", "--cpuset-cpus", "0-1", "--cpuset-mems", "0", "busybox"],
  ["--cpu-period", "100000", "--cpu-quota", "50000", "--cpu-rt-period", "1000", "--cpu-rt-runtime", "500", "busybox"],
  ["--pids-limit", "20", "--blkio-weight", "500", "--blkio-weight-device", "/dev/sda:200", "busybox"],
  [
    "--device-read-bps",
    "/dev/sda:1mb",
    "--device-write-bps",
    "/dev/sda:2mb",
    "--device-read-iops",
    "/dev/sda:100",
    "--device-write-iops",
    "/dev/sda:200",
    "busybox",
  ],
  ["--device", "/dev/fuse", "--device", "/dev/null:/dev/other:r", "--device", "/dev/zero:rw", "--device-cgroup-rule", "c 1:3 rwm", "busybox"],
  ["--ulimit", "nofile=1024:2048", "--ulimit", "core=-1", "--ulimit", "nproc=10", "busybox"],
  ["--cap-add", "NET_ADMIN", "--cap-drop", "ALL", "--privileged", "--group-add", "audio", "busybox"],
  ["--cap-add", "net_admin", "--cap-add", "CAP_SYS_TIME", "--cap-drop", "SYS_TIME", "--cap-drop", "chown", "busybox"],
  ["--cap-add", "all", "--cap-add", "CHOWN", "busybox"],
  ["--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined", "--security-opt", "label:disable", "busybox"],
  ["--security-opt", "seccomp={dir}/seccomp.json", "busybox"],
  ["--security-opt", "systempaths=unconfined", "busybox"],
  ["--read-only", "--init", "--shm-size", "128m", "--sysctl", "net.ipv4.ip_forward=1", "busybox"],
  ["--init=false", "--restart", "on-failure:3", "busybox"],
  ["--restart", "unless-stopped", "--stop-signal", "SIGQUIT", "--stop-timeout", "30", "busybox"],
  ["--rm", "--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host", "--userns", "host", "busybox"],
  ["--pid", "container:x", "--ipc", "container:y", "--network", "container:z", "busybox"],
  ["--network", "none", "busybox"],
  ["--network", "mine", "--network-alias", "a", "--network-alias", "b", "--ip", "10.0.0.5", "--ip6", "fd00::5", "--link-local-ip", "169.254.1.1", "busybox"],
  ["--network", "name=mine,alias=x,ip=10.0.0.6,mac-address=92:d0:c6:0a:29:33,driver-opt=a=b", "--network", "other", "busybox"],
  ["--mac-address", "92:d0:c6:0a:29:33", "busybox"],
  ["--link", "db:database", "--add-host", "a:1.2.3.4", "--add-host", "b=::1", "--add-host", "gw:host-gateway", "busybox"],
  ["--dns", "1.1.1.1", "--dns-search", "example.org", "--dns-option", "ndots:2", "busybox"],
  ["--log-driver", "json-file", "--log-opt", "max-size=1m", "--log-opt", "max-file=2", "busybox"],
  [
    "--health-cmd",
    "true",
    "--health-interval",
    "1m30s",
    "--health-timeout",
    "500ms",
    "--health-retries",
    "2",
    "--health-start-period",
    "1s",
    "--health-start-interval",
    "1.5s",
    "busybox",
  ],
  ["--no-healthcheck", "busybox"],
  ["--volumes-from", "a:ro", "--volume-driver", "local", "--storage-opt", "size=1g", "--cgroup-parent", "/x", "busybox"],
  ["--runtime", "runc", "--isolation", "default", "--platform", "linux/amd64", "--annotation", "a=b", "busybox"],
  ["--dns", "::1", "-m", "512", "-t", "busybox"],
];

const answers = {
  "POST /containers/create": new Reply(201, { Id: id, Warnings: [] }),
  [`POST /containers/${id}/start`]: new Reply(204, ""),
  [`POST /containers/${id}/wait`]: { StatusCode: 0 },
  "GET /containers/web/json": { Id: id, State: { Running: true }, Config: { Tty: false } },
  "POST /containers/web/exec": new Reply(201, { Id: id }),
  [`POST /exec/${id}/start`]: new Reply(200, ""),
};

const docker = await dockerCli();

describe.skipIf(docker === undefined)("bodies that docker sends too (skipped without the docker CLI)", () => {
  let daemon: FakeDaemon;
  let directory: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "wherry-bodies-"));
    daemon = await startFakeDaemon(answers);
    await writeFile(join(directory, "env"), "# a comment\nA=file\nFROM_HOST\nB=with spaces and = signs \n\nUNKNOWN_NAME\n");
    await writeFile(join(directory, "labels"), "# a comment\nx=y\nbare\n");
    await writeFile(join(directory, "seccomp.json"), '{\n  "defaultAction": "SCMP_ACT_ALLOW"\n}\n');
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });

  const ours = async (argv: readonly string[]) => {
    daemon.requests.length = 0;
    const io = testIo(argv, { env: environment, cwd: directory });
    const code = await main(io, () => createHttpClient(daemon.host));
    return { code, text: io.out() + io.err(), requests: [...daemon.requests] };
  };
  const theirs = async (argv: readonly string[]) => {
    daemon.requests.length = 0;
    const done = await promisify(execFile)(docker!, argv, {
      cwd: directory,
      env: { ...environment, DOCKER_HOST: daemon.host, DOCKER_CONFIG: directory },
    }).catch((error: { stdout: string; stderr: string }) => error);
    return { text: done.stdout + done.stderr, requests: [...daemon.requests] };
  };

  it.each(commandLines.map((words) => [words.join(" "), words] as const))("create %s", async (_name, words) => {
    const argv = ["create", ...words.map((word) => word.replace("{dir}", directory))];
    const [their, our] = [await theirs(argv), await ours(argv)];
    const created = (requests: readonly { url: string }[]) =>
      requests.find((r) => r.url.startsWith("/containers/create")) as { url: string; body: unknown } | undefined;
    expect(created(their.requests), their.text).toBeDefined();
    expect(our.code, our.text).toBe(0);
    expect(comparable(created(our.requests)?.body)).toEqual(comparable(created(their.requests)?.body));
    expect(created(our.requests)?.url).toBe(created(their.requests)?.url);
  });

  it.each([
    ["run -d --rm busybox true", ["run", "-d", "--rm", "busybox", "true"]],
    ["run -d -i -t busybox", ["run", "-d", "-i", "-t", "busybox"]],
    ["exec -d", ["exec", "-d", "-e", "A=b", "-u", "1", "-w", "/x", "--privileged", "web", "ls", "-l"]],
  ] as const)("%s", async (_name, argv) => {
    const [their, our] = [await theirs(argv), await ours(argv)];
    const bodies = (requests: readonly { method: string; body: unknown }[]) => requests.filter((r) => r.body !== undefined).map((r) => comparable(r.body));
    // docker tells "Detach" when it makes an exec too; it only counts at its start.
    const their0 = bodies(their.requests).map((body, i) => (argv[0] === "exec" && i === 0 ? { ...(body as object), Detach: undefined } : body));
    expect(bodies(our.requests)).toEqual(their0);
    expect(our.text).toBe(their.text);
  });
});
