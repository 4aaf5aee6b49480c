// The engines that are compared: wherry always, dockerd and podman where they are installed. Each gets roots of its own and is ended afterwards.
import { spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmdirSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";

const env = { ...process.env };
delete env.NODE_EXTRA_CA_CERTS;
delete env.DOCKER_HOST;
delete env.WHERRY_HOST;

const has = (program) => spawnSync("sh", ["-c", `command -v ${program}`]).status === 0;

/** Runs a program quietly; rejects unless it exits 0. Resolves to its standard output. */
export function run(command, args, { env: extra = {}, input, inputFile, stdout = "pipe" } = {}) {
  return new Promise((resolve, reject) => {
    const file = inputFile === undefined ? undefined : openSync(inputFile, "r");
    const child = spawn(command, args, { env: { ...env, ...extra }, stdio: [file ?? (input === undefined ? "ignore" : "pipe"), stdout, "pipe"] });
    if (file !== undefined) closeSync(file);
    let out = "";
    let err = "";
    child.stdout?.on("data", (d) => (out += d));
    child.stderr.on("data", (d) => (err += d));
    if (input !== undefined) child.stdin.end(input);
    child.on("error", reject);
    child.on("close", (code) => (code === 0 ? resolve(out) : reject(new Error(`${command} ${args.join(" ")}: exit ${code}: ${err.trim().slice(-500)}`))));
  });
}

/** One request on a unix socket; resolves to {status, body}. */
export function api(socketPath, method, path, body) {
  return new Promise((resolve, reject) => {
    const data = body === undefined ? undefined : JSON.stringify(body);
    const req = request(
      { socketPath, method, path, headers: data ? { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(data) } : {} },
      (res) => {
        const chunks = [];
        res.on("data", (c) => chunks.push(c));
        res.on("end", () => resolve({ status: res.statusCode, body: Buffer.concat(chunks) }));
      },
    );
    req.on("error", reject);
    req.end(data);
  });
}

async function waitForPing(socketPath, child, title) {
  const from = performance.now();
  for (;;) {
    if (child.exitCode !== null) throw new Error(`${title} ended with ${child.exitCode} while starting`);
    try {
      if ((await api(socketPath, "GET", "/_ping")).status === 200) return performance.now() - from;
    } catch {
      if (performance.now() - from > 60_000) throw new Error(`${title} does not answer`);
      await new Promise((r) => setTimeout(r, 5));
    }
  }
}

const stopChild = (child) =>
  new Promise((resolve) => {
    if (child.exitCode !== null) return resolve();
    child.once("exit", resolve);
    child.kill("SIGTERM");
  });

/** Removes an engine's cgroup, and what is empty below it, from all hierarchies: no engine removes the parent that it was given. */
function removeCgroups(parent) {
  const remove = (directory) => {
    for (const entry of readdirSync(directory, { withFileTypes: true })) if (entry.isDirectory()) remove(join(directory, entry.name));
    rmdirSync(directory);
  };
  for (const line of readFileSync("/proc/self/mountinfo", "utf8").split("\n")) {
    const [before, after] = line.split(" - ").map((part) => part.split(" "));
    if (!after?.[0]?.startsWith("cgroup")) continue;
    const directory = join(before[4], parent);
    try {
      if (existsSync(directory)) remove(directory);
    } catch (error) {
      // A bench that has failed half way may have left something running in it.
      console.error(`note: ${directory} stays: ${error.message}`);
    }
  }
}

async function stopEngine(child, cgroups) {
  await stopChild(child);
  removeCgroups(cgroups);
}

/** Starts our daemon on its own roots; `enter`: a command that starts it elsewhere (another network namespace). */
export async function startWherry(dist, root, id, driver, enter = []) {
  const name = driver === undefined ? "wherry" : `wherry ${driver}`;
  const dir = join(root, `${enter.length > 0 ? "host-" : ""}${name.replace(" ", "-")}`);
  mkdirSync(join(dir, "run"), { recursive: true });
  const socket = join(dir, "run/wherry.sock");
  const log = openSync(join(dir, "wherryd.log"), "a");
  const cgroups = `/wherry-bench-${enter.length > 0 ? "host-" : ""}${driver ?? ""}${id}`;
  const [program, ...before] = [...enter, join(dist, "bin/wherryd")];
  const child = spawn(
    program,
    [
      ...before,
      "--data-root",
      join(dir, "data"),
      "--exec-root",
      join(dir, "run"),
      "--host",
      `unix://${socket}`,
      "--bridge",
      `wh${(driver ?? "b")[0]}${id}`,
      "--cgroup-parent",
      cgroups,
      ...(driver === undefined ? [] : ["--storage-driver", driver]),
    ],
    { env, stdio: ["ignore", log, log] },
  );
  await waitForPing(socket, child, "wherryd");
  const cli = join(dist, "bin/wherry");
  const host = { env: { WHERRY_HOST: `unix://${socket}` } };
  return {
    name,
    directory: dir,
    socket,
    pid: child.pid,
    cli: (args, o = {}) => run(cli, args, { ...host, ...o }),
    stop: () => stopEngine(child, cgroups),
  };
}

/** Starts Debian's dockerd beside whatever runs here: without a network of its own, or by `enter` in a namespace where it may have one. */
export async function startDocker(root, id, enter = []) {
  if (!has("dockerd") || !has("docker")) return undefined;
  const dir = join(root, enter.length > 0 ? "host-docker" : "docker");
  mkdirSync(dir, { recursive: true });
  const socket = join(dir, "docker.sock");
  const log = openSync(join(dir, "dockerd.log"), "a");
  const cgroups = `/docker-bench-${enter.length > 0 ? "host-" : ""}${id}`;
  const [program, ...before] = [...enter, "dockerd"];
  const child = spawn(
    program,
    [
      ...before,
      "--data-root",
      join(dir, "data"),
      "--exec-root",
      join(dir, "run"),
      "--pidfile",
      join(dir, "pid"),
      "-H",
      `unix://${socket}`,
      ...(enter.length > 0 ? ["--bip", "172.29.0.1/24"] : ["--bridge", "none", "--iptables=false"]),
      "--cgroup-parent",
      cgroups,
    ],
    { env, stdio: ["ignore", log, log] },
  );
  await waitForPing(socket, child, "dockerd");
  const extra = { env: { DOCKER_HOST: `unix://${socket}` } };
  return {
    name: "docker",
    directory: dir,
    socket,
    pid: child.pid,
    cli: (args, o = {}) => run("docker", args, { ...extra, ...o }),
    stop: () => stopEngine(child, cgroups),
  };
}

/** podman has no daemon; it gets its own storage. */
export function startPodman(root) {
  if (!has("podman")) return undefined;
  const data = join(root, "podman/data");
  // crun refuses a hybrid cgroup hierarchy
  const flags = ["--root", data, "--runroot", join(root, "podman/run"), "--cgroup-manager", "cgroupfs", ...(has("runc") ? ["--runtime", "runc"] : [])];
  // podman's own defaults raise these limits, which needs CAP_SYS_RESOURCE; lower ones may always be asked for
  const ulimits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
  const limits = (args) => (args[0] === "run" ? ["run", ...ulimits, ...args.slice(1)] : args);
  const stop = async () => {
    // podman leaves its storage bind-mounted onto itself
    while (spawnSync("umount", [join(data, "overlay")], { stdio: "ignore" }).status === 0);
  };
  return { name: "podman", cli: (args, o = {}) => run("podman", [...flags, ...limits(args)], o), stop };
}
