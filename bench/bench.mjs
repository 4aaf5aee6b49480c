#!/usr/bin/env node
// `npm run bench [-- --runs N] [--json FILE] [--only run,api,exec,…] [--root DIR]`: wherry beside an installed docker and podman,
// alternating on one machine and one filesystem. Needs root and a quiet machine.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { alternate, table } from "./measure.mjs";
import { measureChains } from "./chains.mjs";
import { measureBuilds } from "./build.mjs";
import { measureImages } from "./images.mjs";
import { measureMemory } from "./memory.mjs";
import { makeHost, measureNetwork } from "./network.mjs";
import { measureLists } from "./ps.mjs";
import { measureRegistry } from "./registry.mjs";
import { measureRuntimes } from "./runtime.mjs";
import { api, run, startDocker, startPodman, startWherry } from "./peers.mjs";

const option = (name, fallback) => {
  const i = process.argv.indexOf(`--${name}`);
  return i < 0 ? fallback : process.argv[i + 1];
};
if (process.argv.includes("--help")) {
  console.log(
    "npm run bench -- [--runs 30] [--json FILE] [--only run,api,exec,logs,build,memory,start,runtime,images,chains,registry,network,ps] [--root DIR]\n\n  --root DIR  where the engines keep their data (default: a new directory under the system's temporary one)",
  );
  process.exit(0);
}
const runs = Number(option("runs", "30"));
const only = option("only", "run,api,exec,logs,build,memory,start,runtime").split(",");
const dist = join(dirname(dirname(fileURLToPath(import.meta.url))), "dist");
const base = mkdtempSync(join(option("root", tmpdir()), "wherry-bench-"));
const id = process.pid.toString(36);
const results = {};

const engines = [await startWherry(dist, base, id)];
try {
  for (const start of [() => startDocker(base, id), () => startPodman(base)]) {
    try {
      const peer = await start();
      if (peer) engines.push(peer);
    } catch (e) {
      console.error(`note: left out: ${e.message}`);
    }
  }
  const [wherry] = engines;
  await wherry.cli(["image", "bootstrap", "busybox"]);
  await wherry.cli(["save", "-o", join(base, "busybox.tar"), "busybox"]);
  for (const e of [...engines.slice(1)]) {
    try {
      await e.cli(["load", "-i", join(base, "busybox.tar")]);
      await e.cli(["run", "--rm", "--network", "none", "busybox", "true"]);
    } catch (error) {
      console.error(`note: ${e.name} cannot run here and is left out: ${error.message}`);
      await e.stop();
      engines.splice(engines.indexOf(e), 1);
    }
  }

  const show = (title, rows) => {
    results[title] = rows;
    console.log(`\n${title}`);
    console.log(
      table([
        ["", "median ms", "min", "max", "× wherry", "CPU ms"],
        ...rows.map((r) => [r.name, r.medianMs.toFixed(1), r.minMs.toFixed(1), r.maxMs.toFixed(1), r.ratio.toFixed(1), r.cpuMs.toFixed(1)]),
      ]),
    );
  };
  const contenders = (make, list = engines) => Object.fromEntries(list.map((e) => [e.name, make(e)]));

  // First, before the other measurements have made anybody's heap grow.
  if (only.includes("memory")) {
    results.memory = {};
    for (const e of engines.filter((x) => x.pid)) results.memory[e.name] = await measureMemory(e, 20);
    const rows = Object.entries(results.memory).map(([name, m]) => [name, m.idleMiB.toFixed(1), m.perContainerMiB.toFixed(2)]);
    console.log(`\nmemory, PSS of all the engine's processes (without the containers' own)\n${table([["", "idle MiB", "per container MiB"], ...rows])}`);
  }
  if (only.includes("run"))
    show(
      "run --rm --network none busybox true",
      await alternate(
        contenders((e) => () => e.cli(["run", "--rm", "--network", "none", "busybox", "true"])),
        runs,
      ),
    );
  if (only.includes("api")) {
    const cycle = (e) => async () => {
      const ok = (r, ...want) => {
        if (!want.includes(r.status)) throw new Error(`${e.name}: ${r.status}: ${r.body}`);
        return r;
      };
      const { Id } = JSON.parse(
        ok(await api(e.socket, "POST", "/v1.41/containers/create", { Image: "busybox", Cmd: ["true"], HostConfig: { NetworkMode: "none" } }), 201).body,
      );
      const ended = api(e.socket, "POST", `/v1.41/containers/${Id}/wait?condition=next-exit`);
      ok(await api(e.socket, "POST", `/v1.41/containers/${Id}/start`), 204);
      ok(await ended, 200);
      ok(await api(e.socket, "DELETE", `/v1.41/containers/${Id}`), 204);
    };
    show(
      "API: create, start, wait, delete",
      await alternate(
        contenders(
          cycle,
          engines.filter((e) => e.socket),
        ),
        runs,
      ),
    );
  }
  if (only.includes("runtime")) show("OCI runtimes: run of a bundle", measureRuntimes(dist, base, runs));
  if (only.includes("exec")) {
    for (const e of engines) await e.cli(["run", "-d", "--name", "bench-exec", "--network", "none", "busybox", "sleep", "100000"]);
    show(
      "exec CONTAINER true",
      await alternate(
        contenders((e) => () => e.cli(["exec", "bench-exec", "true"])),
        runs,
      ),
    );
    for (const e of engines) await e.cli(["rm", "-f", "bench-exec"]);
  }
  if (only.includes("logs")) {
    for (const e of engines)
      await e.cli(
        ["run", "--name", "bench-logs", "--network", "none", "busybox", "sh", "-c", "yes 0123456789012345678901234567890123456789012345678 | head -n 1000000"],
        { stdout: "ignore" },
      );
    show(
      "logs: read 50 MB back",
      await alternate(
        contenders((e) => () => e.cli(["logs", "bench-logs"], { stdout: "ignore" })),
        Math.min(runs, 3),
        1,
      ),
    );
    for (const e of engines) await e.cli(["rm", "-f", "bench-logs"]);
  }
  if (only.includes("build")) {
    const list = [wherry, ...engines.filter((e) => e.name === "docker")];
    for (const { title, rows } of await measureBuilds(list, base, Math.min(runs, 5))) show(title, rows);
  }
  if (only.includes("ps"))
    for (const { title, rows } of await measureLists(
      engines.filter((e) => e.socket),
      runs,
    ))
      show(title, rows);
  // Minutes: only for who asks. podman has no daemon to load into.
  if (only.includes("images")) {
    const erofs = await startWherry(dist, base, id, "erofs").catch((e) => console.error(`note: erofs is left out: ${e.message}`));
    try {
      await erofs?.cli(["image", "bootstrap", "busybox"]);
      const list = [...(erofs ? [erofs] : []), wherry, ...engines.filter((e) => e.name === "docker")];
      for (const { title, rows } of await measureImages(list, base, Math.min(runs, 5))) show(title, rows);
    } finally {
      await erofs?.stop();
    }
  }
  if (only.includes("chains")) {
    const erofs = await startWherry(dist, base, id, "erofs").catch((e) => console.error(`note: erofs is left out: ${e.message}`));
    try {
      await erofs?.cli(["image", "bootstrap", "busybox"]);
      for (const { title, rows } of await measureChains([wherry, ...(erofs ? [erofs] : []), ...engines.slice(1)], base, runs)) show(title, rows);
    } finally {
      await erofs?.stop();
    }
  }
  if (only.includes("registry")) {
    const erofs = await startWherry(dist, base, id, "erofs").catch((e) => console.error(`note: erofs is left out: ${e.message}`));
    try {
      const measured = await measureRegistry([wherry, ...(erofs ? [erofs] : []), ...engines.slice(1)], base, Math.min(runs, 5));
      if (measured === undefined) console.error("note: registry is left out: there is no docker-registry");
      for (const { title, rows } of measured?.tables ?? []) show(title, rows);
      results.registryMemory = measured?.memory;
      const rows = Object.entries(measured?.memory ?? {}).map(([name, m]) => [name, m.idleMiB.toFixed(1), m.peakMiB.toFixed(1)]);
      console.log(`\nmemory of a pull\n${table([["", "idle MiB", "peak above MiB"], ...rows])}`);
    } finally {
      await erofs?.stop();
    }
  }
  if (only.includes("network")) {
    const hosts = [makeHost(`whb${id}`, 1), makeHost(`whd${id}`, 2)];
    const there = [];
    try {
      there.push({ ...(await startWherry(dist, base, id, undefined, hosts[0].enter)), host: hosts[0] });
      await there[0].cli(["image", "bootstrap", "busybox"]);
      const docker = await startDocker(base, id, hosts[1].enter).catch((e) => console.error(`note: docker is left out: ${e.message}`));
      if (docker) {
        there.push({ ...docker, host: hosts[1] });
        await docker.cli(["load", "-i", join(base, "busybox.tar")]);
      }
      const { times, figures, memory } = await measureNetwork(there, runs);
      for (const { title, rows } of times) show(title, rows);
      results.network = { figures, memory };
      const cells = ({ name, loopbackMBps, outsideMBps, loopbackUs, outsideUs, dns }) => [
        name,
        ...[loopbackMBps, outsideMBps, loopbackUs, outsideUs, dns.answers].map((n) => n.toFixed(0)),
        ...[dns.p50, dns.p99].map((n) => n.toFixed(2)),
        dns.cpuPercent.toFixed(0),
      ];
      const head = ["", "loopback MB/s", "outside MB/s", "loopback first byte µs", "outside µs", "DNS answers/s of 5000", "p50 ms", "p99 ms", "daemon CPU %"];
      console.log(`\npublished ports and names\n${table([head, ...figures.map(cells)])}`);
      console.log(`${memory.ports} published ports: ${memory.mib.toFixed(1)} MiB`);
    } finally {
      for (const e of there) await e.stop();
      for (const host of hosts) host.remove();
    }
  }
  if (only.includes("start")) {
    const starts = { wherry: () => startWherry(dist, join(base, "start"), `s${id}`), docker: () => startDocker(join(base, "start"), `s${id}`) };
    const there = Object.entries(starts).filter(([name]) => engines.some((e) => e.name === name));
    const start = (one) => async () => (await one()).stop;
    show(
      "daemon start until it answers, with a data root that it knows",
      await alternate(Object.fromEntries(there.map(([name, one]) => [name, start(one)])), runs),
    );
  }
  const file = option("json");
  if (file)
    writeFileSync(
      file,
      `${JSON.stringify({ date: new Date().toISOString(), node: process.version, kernel: (await run("uname", ["-r"])).trim(), runs, results }, null, 2)}\n`,
    );
} finally {
  for (const e of engines) await e.stop();
  try {
    rmSync(base, { recursive: true, force: true });
  } catch (e) {
    console.error(`note: ${base} could not be removed: ${e.message}`);
  }
}
