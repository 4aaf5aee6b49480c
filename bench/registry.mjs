// Pull and push beside dockerd and podman, with Debian's docker-registry on the same filesystem, alternating.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { archive, configOf, rounds, sha256, textLayer } from "./images.mjs";

const layers = { count: 5, files: 4000, bytes: 10_240 };

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

/** Puts an image of these layers, compressed as docker compresses, into a registry; returns its compressed size. */
async function publish(host, repository, plain) {
  const send = async (url, init, want) => {
    const answer = await fetch(url, init);
    if (answer.status !== want) throw new Error(`${init.method} ${url}: ${answer.status}: ${await answer.text()}`);
    await answer.arrayBuffer();
    return answer;
  };
  const put = async (body, mediaType) => {
    const begun = await send(`http://${host}/v2/${repository}/blobs/uploads/`, { method: "POST" }, 202);
    const url = new URL(begun.headers.get("location"), `http://${host}`);
    url.searchParams.set("digest", `sha256:${sha256(body)}`);
    await send(url, { method: "PUT", body, headers: { "content-type": "application/octet-stream" } }, 201);
    return { mediaType, size: body.length, digest: `sha256:${sha256(body)}` };
  };
  const blobs = [];
  for (const blob of await Promise.all(plain.map((one) => promisify(gzip)(one, { level: 6 }))))
    blobs.push(await put(blob, "application/vnd.docker.image.rootfs.diff.tar.gzip"));
  const config = await put(configOf(plain), "application/vnd.docker.container.image.v1+json");
  const mediaType = "application/vnd.docker.distribution.manifest.v2+json";
  const body = JSON.stringify({ schemaVersion: 2, mediaType, config, layers: blobs });
  await send(`http://${host}/v2/${repository}/manifests/1`, { method: "PUT", body, headers: { "content-type": mediaType } }, 201);
  return blobs.reduce((sum, { size }) => sum + size, 0);
}

const status = (pid, key) => Number(new RegExp(`^${key}:\\s+(\\d+)`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;

/** Peak memory of the daemon in a pull, above what it has when idle, MiB. */
async function peakOf(engine, work) {
  writeFileSync(`/proc/${engine.pid}/clear_refs`, "5");
  const idle = status(engine.pid, "VmRSS");
  await work();
  return { idleMiB: idle, peakMiB: status(engine.pid, "VmHWM") - idle };
}

/** What pulls, and what pushes may take; a round that has begun is finished. */
const budgetMs = { pull: 90_000, push: 60_000 };

/** [{title, rows}] and memory; undefined where there is no docker-registry. `engines`: ours first. Some three minutes at most on a quiet machine; fewer rounds on a slow one. */
export async function measureRegistry(engines, base, runs) {
  if (spawnSync("sh", ["-c", "command -v docker-registry"]).status !== 0) return undefined;
  const dir = join(base, "registry");
  mkdirSync(dir, { recursive: true });
  const plain = Array.from({ length: layers.count }, (_, i) => textLayer(`l${i}`, layers.files, layers.bytes));
  const from = await startRegistry(join(dir, "from"), await freePort());
  const to = await startRegistry(join(dir, "to"), await freePort());
  const flags = (e) => (e.name === "podman" ? ["--tls-verify=false"] : []);
  try {
    const compressed = await publish(from.host, "bench/big", plain);
    const name = `${from.host}/bench/big:1`;
    const memory = {};
    const cases = {
      [`pull: 5 layers of 4,000 files, 205 MB (${(compressed / 1e6).toFixed(0)} compressed)`]: (e) => e.cli(["pull", "-q", ...flags(e), name]),
      "(remove it)": (e) => e.cli(["rmi", name]),
    };
    const pulls = (await rounds(engines, runs, cases, { until: performance.now() + budgetMs.pull })).filter(({ title }) => !title.startsWith("("));
    for (const e of engines.filter(({ pid }) => pid)) {
      memory[e.name] = await peakOf(e, () => e.cli(["pull", "-q", ...flags(e), name]));
      await e.cli(["rmi", name]);
    }
    // What is pushed was loaded, so that nobody has it compressed.
    const big = join(dir, "big.tar");
    writeFileSync(big, archive("bench-big", plain));
    const pushed = `${to.host}/bench/big:1`;
    for (const e of engines) {
      await e.cli(["load", "-q", "-i", big]);
      await e.cli(["tag", "bench-big", pushed]);
    }
    const push = async (e) => {
      to.empty();
      await e.cli(["push", ...(e.name === "podman" ? flags(e) : ["-q"]), pushed]);
    };
    const pushes = await rounds(engines, runs, { "push of the same, to an empty registry": push }, { warm: false, until: performance.now() + budgetMs.push });
    return { tables: [...pulls, ...pushes], memory };
  } finally {
    await from.stop();
    await to.stop();
  }
}
