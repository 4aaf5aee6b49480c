// Networks, engine beside engine: each in a network namespace of its own, with a bridge and a cable to a machine outside. Traffic's ends are node programs in the
// containers' namespaces, the same for all.
import { spawn, spawnSync } from "node:child_process";
import { alternate, median, processCpuMs, pssKiB, settle } from "./measure.mjs";
import { api, run } from "./peers.mjs";

const sh = (command) => {
  const { status, stderr } = spawnSync("sh", ["-c", command], { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command}: ${stderr.trim()}`);
};

/** /sys shows the interfaces of the namespace that it was mounted in; the cgroups are kept. */
const WITH_SYS = `set -e; mount --make-rslave /; kept=$(mktemp -d); mount --rbind /sys/fs/cgroup "$kept"; mount -t sysfs sysfs /sys
mount --rbind "$kept" /sys/fs/cgroup; umount -l "$kept"; rmdir "$kept"; exec "$@"`;

/** A namespace for an engine, and one outside. The index keeps the ranges of two apart. */
export function makeHost(name, index) {
  sh(`ip netns add ${name}; ip netns add ${name}-out; ip -n ${name} link set lo up; ip -n ${name}-out link set lo up
    ip -n ${name} link add wire0 type veth peer name wire1 netns ${name}-out; ip -n ${name} link set wire0 up; ip -n ${name}-out link set wire1 up
    ip -n ${name} addr add 10.${70 + index}.0.1/24 dev wire0; ip -n ${name}-out addr add 10.${70 + index}.0.2/24 dev wire1`);
  return {
    name,
    address: `10.${70 + index}.0.1`,
    enter: ["nsenter", `--net=/run/netns/${name}`, "unshare", "--mount", "sh", "-c", WITH_SYS, "sh"],
    remove: () => sh(`ip netns del ${name}; ip netns del ${name}-out`),
  };
}

const SERVER = `const net = require("net"), big = Buffer.alloc(1 << 20);
net.createServer((s) => { s.on("error", () => {}); const more = () => { while (s.writable && s.write(big)); }; s.on("drain", more); more(); }).listen(5000);
net.createServer({ noDelay: true }, (s) => { s.on("error", () => {}); s.end("x"); }).listen(5001);
console.log("up");`;
/** MB/s, or median microseconds from connect to the first byte. */
const THROUGHPUT = `const [host, port, ms] = process.argv.slice(1); let n = 0; const s = require("net").connect({ host, port: Number(port), onread: { buffer: Buffer.alloc(1 << 20), callback: (c) => { n += c; return true; } } });
s.on("connect", () => setTimeout(() => { n = 0; const t = performance.now(); setTimeout(() => { console.log(n / 1000 / (performance.now() - t)); process.exit(); }, Number(ms)); }, 200));`;
const LATENCY = `const [host, port, count] = process.argv.slice(1), all = []; (function one() { const t = performance.now(); const s = require("net").connect(Number(port), host);
s.once("data", () => all.push((performance.now() - t) * 1000)); s.on("close", () => { if (all.length < Number(count)) one(); else { all.sort((a, b) => a - b); console.log(all[all.length >> 1]); process.exit(); } }); })();`;
/** Questions at a steady rate: answers a second, 50th and 99th percentile of their latency in ms. */
const DNS = `const [rate, seconds, name] = process.argv.slice(1), s = require("dgram").createSocket("udp4"), sent = new Map(), all = [];
const labels = Buffer.concat([...name.split(".").map((l) => Buffer.concat([Buffer.of(l.length), Buffer.from(l)])), Buffer.of(0, 0, 1, 0, 1)]);
s.on("message", (m) => { const id = m.readUInt16BE(0), t = sent.get(id); if (t !== undefined && m.readUInt16BE(6) > 0) all.push(performance.now() - t); sent.delete(id); });
s.connect(53, "127.0.0.11", () => { const from = performance.now(); let n = 0; (function tick() { const now = performance.now();
  for (const due = ((now - from) * rate) / 1000; n < due && n < rate * seconds; n++) { const q = Buffer.concat([Buffer.from([n >> 8, n, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), labels]); sent.set(n & 65535, performance.now()); s.send(q); }
  if (n < rate * seconds) setTimeout(tick, 1); else setTimeout(() => { all.sort((a, b) => a - b); console.log(JSON.stringify({ answers: all.length / seconds, p50: all[all.length >> 1], p99: all[Math.floor(all.length * 0.99)] })); process.exit(); }, 300); })(); });`;

const node = (enter, script, ...args) => run(enter[0], [...enter.slice(1), process.execPath, "-e", script, ...args.map(String)]);

async function inspect(engine, name) {
  const { State, NetworkSettings } = JSON.parse(await engine.cli(["inspect", name]))[0];
  return { inside: ["nsenter", "-t", String(State.Pid), "-n"], ports: NetworkSettings.Ports };
}

function serve(enter) {
  const child = spawn(enter[0], [...enter.slice(1), process.execPath, "-e", SERVER], { stdio: ["ignore", "pipe", "inherit"] });
  return new Promise((up) => child.stdout.once("data", () => up(child)));
}

const ok = ({ status, body }, ...want) => {
  if (!want.includes(status)) throw new Error(`${status}: ${body}`);
  return body;
};

/** engines: {name, cli, socket, pid, host}. Resolves to tables of times (rows as of alternate) and of other figures. */
export async function measureNetwork(engines, runs) {
  const contenders = (make, list = engines) => Object.fromEntries(list.map((e) => [e.name, make(e)]));
  const times = [];
  const [wherry] = engines;
  times.push({
    title: "run --rm busybox true, on the default bridge",
    rows: await alternate(
      {
        ...contenders((e) => () => e.cli(["run", "--rm", "busybox", "true"])),
        "wherry, --network none": () => wherry.cli(["run", "--rm", "--network", "none", "busybox", "true"]),
      },
      runs,
    ),
  });
  times.push({
    title: "API: create a network and remove it",
    rows: await alternate(
      contenders((e) => async () => {
        const { Id } = JSON.parse(ok(await api(e.socket, "POST", "/v1.41/networks/create", { Name: "bench-net" }), 201));
        ok(await api(e.socket, "DELETE", `/v1.41/networks/${Id}`), 204);
      }),
      runs,
    ),
  });
  const figures = [];
  for (const e of engines) figures.push({ name: e.name, ...(await traffic(e)) });
  return { times, figures, memory: await manyPorts(wherry) };
}

async function traffic(engine) {
  const { host } = engine;
  await engine.cli(["network", "create", "bench-names"]);
  await engine.cli([
    "run",
    "-d",
    "--name",
    "bench-web",
    "--network",
    "bench-names",
    "-p",
    "0.0.0.0:5000:5000",
    "-p",
    "0.0.0.0:5001:5001",
    "busybox",
    "sleep",
    "100000",
  ]);
  const { inside } = await inspect(engine, "bench-web");
  const server = await serve(inside);
  try {
    const outside = ["ip", "netns", "exec", `${host.name}-out`];
    const best = async (...args) => Math.max(...[Number(await node(...args)), Number(await node(...args)), Number(await node(...args))]);
    const middle = async (...args) => median([Number(await node(...args)), Number(await node(...args)), Number(await node(...args))]);
    const cpu = processCpuMs(engine.pid);
    const dns = JSON.parse(await node(inside, DNS, 5000, 4, "bench-web"));
    const dnsCpu = processCpuMs(engine.pid) - cpu;
    return {
      loopbackMBps: await best(host.enter, THROUGHPUT, "127.0.0.1", 5000, 1000),
      outsideMBps: await best(outside, THROUGHPUT, host.address, 5000, 1000),
      loopbackUs: await middle(host.enter, LATENCY, "127.0.0.1", 5001, 1000),
      outsideUs: await middle(outside, LATENCY, host.address, 5001, 1000),
      dns: { ...dns, cpuPercent: dnsCpu / 40 },
    };
  } finally {
    server.kill("SIGKILL");
    await engine.cli(["rm", "-f", "bench-web"]);
    await engine.cli(["network", "rm", "bench-names"]);
  }
}

/** What 10,000 published ports take of the daemon, in MiB. */
async function manyPorts(engine) {
  await settle();
  const before = pssKiB(engine.pid);
  await engine.cli(["run", "-d", "--name", "bench-ports", "-p", "20000-29999:20000-29999", "busybox", "sleep", "100000"]);
  await settle(); // what lies about is no cost of the ports
  const after = pssKiB(engine.pid);
  await engine.cli(["rm", "-f", "bench-ports"]);
  return { ports: 10_000, mib: (after - before) / 1024 };
}
