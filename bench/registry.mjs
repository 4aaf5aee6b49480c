// Pull and push beside dockerd and podman, with Debian's docker-registry on the same filesystem, alternating.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { archive, layer, rounds } from "./images.mjs";

async function startRegistry(directory, port) {
  mkdirSync(directory, { recursive: true });
  const lines = [
    "version: 0.1",
    "storage:",
    `  filesystem: {rootdirectory: ${join(directory, "data")}}`,
    "http:",
    `  addr: 127.0.0.1:${port}`,
    "log: {level: error, accesslog: {disabled: true}}",
  ];
  writeFileSync(join(directory, "config.yml"), `${lines.join("\n")}\n`);
  const child = spawn("docker-registry", ["serve", join(directory, "config.yml")], { stdio: "ignore" });
  while (!(await listens(port))) await new Promise((r) => setTimeout(r, 20));
  return {
    host: `127.0.0.1:${port}`,
    empty: () => rmSync(join(directory, "data"), { recursive: true, force: true }),
    stop: async () => {
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}

const listens = (port) =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.destroy();
      resolve(true);
    }).on("error", () => resolve(false));
  });

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

const status = (pid, key) => Number(new RegExp(`^${key}:\\s+(\\d+)`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;

/** Peak memory of the daemon in a pull, above what it has when idle, MiB. */
async function peakOf(engine, work) {
  writeFileSync(`/proc/${engine.pid}/clear_refs`, "5");
  const idle = status(engine.pid, "VmRSS");
  await work();
  return { idleMiB: idle, peakMiB: status(engine.pid, "VmHWM") - idle };
}

/** [{title, rows}] and memory; undefined where there is no docker-registry. `engines`: ours first. */
export async function measureRegistry(engines, base, runs) {
  if (spawnSync("sh", ["-c", "command -v docker-registry"]).status !== 0) return undefined;
  const dir = join(base, "registry");
  mkdirSync(dir, { recursive: true });
  const big = join(dir, "big.tar");
  // Half as large when compressed, as programs and text are.
  writeFileSync(
    big,
    archive(
      "bench-big",
      Array.from({ length: 5 }, (_, i) => layer(`l${i}`, 4000, 10_240, 16)),
    ),
  );
  const from = await startRegistry(join(dir, "from"), await freePort());
  const to = await startRegistry(join(dir, "to"), await freePort());
  const flags = (e) => (e.name === "podman" ? ["--tls-verify=false"] : []);
  try {
    const name = `${from.host}/bench/big:1`;
    await engines[0].cli(["load", "-q", "-i", big]);
    await engines[0].cli(["tag", "bench-big", name]);
    await engines[0].cli(["push", "-q", name]);
    await engines[0].cli(["rmi", "bench-big", name]);
    const cases = {
      "pull: 5 layers of 4,000 files, 205 MB": (e) => e.cli(["pull", "-q", ...flags(e), name]),
      "(remove it)": (e) => e.cli(["rmi", name]),
    };
    const pulls = (await rounds(engines, runs, cases)).filter(({ title }) => !title.startsWith("("));
    const memory = {};
    for (const e of engines.filter(({ pid }) => pid)) {
      memory[e.name] = await peakOf(e, () => e.cli(["pull", "-q", ...flags(e), name]));
      await e.cli(["rmi", name]);
    }
    const pushed = `${to.host}/bench/big:1`;
    for (const e of engines) {
      await e.cli(["load", "-q", "-i", big]);
      await e.cli(["tag", "bench-big", pushed]);
    }
    const pushes = await rounds(engines, runs, {
      "push of the same, to an empty registry": async (e) => {
        to.empty();
        await e.cli(["push", ...(e.name === "podman" ? flags(e) : ["-q"]), pushed]);
      },
    });
    return { tables: [...pulls, ...pushes], memory };
  } finally {
    await from.stop();
    await to.stop();
  }
}
