#!/usr/bin/env node
// `npm run soak [-- --minutes 60] [--workers 4] [--pause 0] [--json FILE]`: mixed calls against a daemon of its own, and what the daemon holds
// meanwhile: memory, descriptors, processes. `--pause` is how many milliseconds each worker thinks between two jobs, so that a machine that does other
// things as well is not taken whole. Fails when the last third holds more than the first third after the warm-up. Needs root and a build.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { median, pssKiB, table } from "../bench/measure.mjs";
import { api, startWherry } from "../bench/peers.mjs";

const option = (name, fallback) => {
  const i = process.argv.indexOf(`--${name}`);
  return i < 0 ? fallback : process.argv[i + 1];
};
if (process.argv.includes("--help")) {
  console.log("npm run soak -- [--minutes 60] [--workers 4] [--pause MILLISECONDS] [--json FILE]");
  process.exit(0);
}
const minutes = Number(option("minutes", "60"));
const workers = Number(option("workers", "4"));
const pause = Number(option("pause", "0"));
const dist = join(dirname(dirname(fileURLToPath(import.meta.url))), "dist");
const base = mkdtempSync(join(tmpdir(), "wherry-soak-"));
const engine = await startWherry(dist, base, process.pid.toString(36));
const counts = {};
let stop = false;

const call = async (method, path, body, ...statuses) => {
  const reply = await api(engine.socket, method, `/v1.51${path}`, body);
  if (!statuses.includes(reply.status)) throw new Error(`${method} ${path}: ${reply.status}: ${String(reply.body).slice(0, 300)}`);
  return reply;
};
const json = async (...args) => JSON.parse((await call(...args)).body);

/** Opens a stream, reads a little of it and goes away without a word. */
const glance = (path) =>
  new Promise((resolve, reject) => {
    const req = request({ socketPath: engine.socket, path: `/v1.51${path}` }, (res) => {
      res.on("error", () => undefined);
      res.once("data", () => req.destroy());
      setTimeout(() => req.destroy(), 200).unref();
      res.once("close", resolve);
    });
    req.on("error", (error) => (req.destroyed ? resolve() : reject(error)));
    req.end();
  });

async function container(worker, n, work) {
  const name = `soak-${worker}-${n}`;
  const { Id } = await json(
    "POST",
    `/containers/create?name=${name}`,
    {
      Image: "busybox",
      Cmd: ["sh", "-c", "i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done; sleep 100"],
      Healthcheck: { Test: ["CMD", "true"], Interval: 1e9 },
    },
    201,
  );
  try {
    await call("POST", `/containers/${Id}/start`, undefined, 204);
    await work(Id);
  } finally {
    await call("DELETE", `/containers/${Id}?force=1&v=1`, undefined, 204);
  }
}

/** Each is done in turn by every worker. */
const jobs = {
  "run to the end": async () => {
    const { Id } = await json("POST", "/containers/create", { Image: "busybox", Cmd: ["true"], HostConfig: { NetworkMode: "none" } }, 201);
    const ended = call("POST", `/containers/${Id}/wait?condition=next-exit`, undefined, 200);
    await call("POST", `/containers/${Id}/start`, undefined, 204);
    await ended;
    await call("DELETE", `/containers/${Id}`, undefined, 204);
  },
  "logs, stats, top, files": (worker, n) =>
    container(worker, n, async (id) => {
      await call("GET", `/containers/${id}/logs?stdout=1&tail=50`, undefined, 200);
      await glance(`/containers/${id}/logs?stdout=1&follow=1`);
      await glance(`/containers/${id}/stats`);
      await call("GET", `/containers/${id}/top`, undefined, 200);
      await call("GET", `/containers/${id}/archive?path=/etc`, undefined, 200);
      await call("GET", `/containers/${id}/changes`, undefined, 200);
      await call("POST", `/containers/${id}/pause`, undefined, 204);
      await call("POST", `/containers/${id}/unpause`, undefined, 204);
    }),
  exec: (worker, n) =>
    container(worker, n, async (id) => {
      await Promise.all(
        Array.from({ length: 5 }, async () => {
          const { Id } = await json("POST", `/containers/${id}/exec`, { Cmd: ["true"] }, 201);
          await call("POST", `/exec/${Id}/start`, { Detach: true }, 200);
          await call("POST", `/wherry/exec/${Id}/wait`, undefined, 200);
        }),
      );
    }),
  "restart, rename, update, commit": (worker, n) =>
    container(worker, n, async (id) => {
      await call("POST", `/containers/${id}/restart?t=0`, undefined, 204);
      await call("POST", `/containers/${id}/rename?name=renamed-${worker}-${n}`, undefined, 204);
      await call("POST", `/containers/${id}/update`, { PidsLimit: 100 }, 200);
      const { Id } = await json("POST", `/commit?container=${id}&repo=soak-${worker}`, {}, 201);
      await call("DELETE", `/images/${Id}?force=1`, undefined, 200);
    }),
  "volumes and networks": async (worker, n) => {
    await call("POST", "/volumes/create", { Name: `soak-${worker}-${n}` }, 201);
    const { Id } = await json("POST", "/networks/create", { Name: `soak-${worker}-${n}` }, 201);
    await call("DELETE", `/networks/${Id}`, undefined, 204);
    await call("DELETE", `/volumes/soak-${worker}-${n}`, undefined, 204);
  },
  "lists and refusals": async () => {
    for (const path of ["/containers/json?all=1&size=1", "/images/json", "/networks", "/volumes", "/info", "/version", "/system/df"])
      await call("GET", path, undefined, 200);
    await call("GET", "/containers/nobody/json", undefined, 404);
    await call("POST", "/containers/create", { Image: "busybox", HostConfig: { Memory: "much" } }, 400);
    await glance("/events");
  },
};

async function worker(number) {
  const names = Object.keys(jobs);
  for (let n = 0; !stop; n++) {
    const name = names[(n + number) % names.length];
    await jobs[name](number, n);
    counts[name] = (counts[name] ?? 0) + 1;
    if (pause > 0) await sleep(pause);
  }
}

function children() {
  return readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(base);
    } catch {
      return false; // it has ended
    }
  });
}

function sample(from) {
  const status = readFileSync(`/proc/${engine.pid}/status`, "utf8");
  return {
    minute: (Date.now() - from) / 60_000,
    calls: Object.values(counts).reduce((a, b) => a + b, 0),
    rssMiB: Number(/VmRSS:\s+(\d+)/.exec(status)[1]) / 1024,
    pssMiB: pssKiB(engine.pid) / 1024,
    fds: readdirSync(`/proc/${engine.pid}/fd`).length,
    processes: children().length,
  };
}

const columns = ["minute", "jobs", "RSS MiB", "PSS MiB", "fds", "processes"];
const row = (s) => [s.minute.toFixed(1), String(s.calls), s.rssMiB.toFixed(1), s.pssMiB.toFixed(1), String(s.fds), String(s.processes)];

let failed = false;
try {
  await engine.cli(["image", "bootstrap", "busybox"]);
  await engine.cli(["run", "--rm", "busybox", "true"]); // the default network is there
  const from = Date.now();
  const samples = [];
  console.log(columns.join("  "));
  const every = Math.max(2000, (minutes * 60_000) / 60);
  const timer = setInterval(() => {
    samples.push(sample(from));
    if (samples.length % 5 === 0) console.log(row(samples.at(-1)).join("  "));
  }, every);
  const ending = setTimeout(() => {
    stop = true;
  }, minutes * 60_000);
  try {
    await Promise.all(Array.from({ length: workers }, (_, i) => worker(i)));
  } finally {
    clearInterval(timer);
    clearTimeout(ending);
    stop = true;
  }
  console.log(table([columns, ...samples.map(row)]));
  console.log(table([["job", "done"], ...Object.entries(counts).map(([name, n]) => [name, String(n)])]));
  // A quarter to warm up; then the beginning is held against the end.
  const warm = samples.slice(Math.floor(samples.length / 4));
  const third = Math.floor(warm.length / 3);
  const [first, last] = [warm.slice(0, third), warm.slice(-third)];
  for (const [key, slack] of [
    ["rssMiB", 0.15],
    ["fds", 0.1],
  ]) {
    const [a, b] = [first, last].map((part) => median(part.map((s) => s[key])));
    const grown = third > 0 && b > a * (1 + slack) + 2;
    console.log(`${key}: ${a.toFixed(1)} after the warm-up, ${b.toFixed(1)} at the end${grown ? ": it has grown" : ""}`);
    failed ||= grown || !(third > 0);
  }
  const file = option("json");
  if (file) writeFileSync(file, `${JSON.stringify({ minutes, workers, counts, samples }, null, 2)}\n`);
} finally {
  for (const { Id } of JSON.parse((await api(engine.socket, "GET", "/v1.51/containers/json?all=1")).body))
    await api(engine.socket, "DELETE", `/v1.51/containers/${Id}?force=1&v=1`);
  await engine.stop();
  rmSync(base, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
