/** `ps` and `inspect` with few and with many containers: docker's client against both engines, and the bare API beneath it. @module */
import { Agent, request } from "node:http";
import { alternate } from "./measure.mjs";
import { api, run } from "./peers.mjs";

/** Containers at each step. They are made and never started: a list costs the same. */
const counts = [1, 100, 1000];
const atOnce = 8;

async function fill(engine, made, count) {
  const one = async (i) => {
    const body = { Image: "busybox", Cmd: ["sh"], Labels: { bench: "ps", number: String(i) }, HostConfig: { NetworkMode: "none" } };
    const reply = await api(engine.socket, "POST", `/v1.41/containers/create?name=ps-${i}`, body);
    if (reply.status !== 201) throw new Error(`${engine.name}: ${reply.status}: ${reply.body}`);
  };
  for (let next = made; next < count; next += atOnce) await Promise.all(Array.from({ length: Math.min(atOnce, count - next) }, (_, i) => one(next + i)));
}

/** The calls of one command of docker's client: a connection of its own, what the daemon is, the question. */
async function likeDocker(engine, path) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const call = (method, url) =>
    new Promise((resolve, reject) => {
      const asked = request({ socketPath: engine.socket, method, path: url, agent }, (response) => {
        response
          .on("end", () => (response.statusCode === 200 ? resolve() : reject(new Error(`${engine.name}: ${method} ${url}: ${response.statusCode}`))))
          .resume();
      });
      asked.on("error", reject);
      asked.end();
    });
  await call("HEAD", "/_ping");
  await call("GET", path);
  agent.destroy();
}

/** Tables of `{title, rows}`; the first engine is ours. */
export async function measureLists(engines, runs) {
  const tables = [];
  const ok = async (engine, path) => {
    const reply = await api(engine.socket, "GET", path);
    if (reply.status !== 200) throw new Error(`${engine.name}: ${reply.status}: ${reply.body}`);
  };
  const docker = (engine, ...args) => run("docker", args, { env: { DOCKER_HOST: `unix://${engine.socket}` } });
  const withDocker = engines.some(({ name }) => name === "docker");
  let made = 0;
  for (const count of counts) {
    for (const engine of engines) await fill(engine, made, count);
    made = count;
    const measure = async (title, work) => {
      const rows = await alternate(Object.fromEntries(engines.map((engine) => [engine.name, () => work(engine)])), runs);
      tables.push({ title: `${title}, ${count} container${count === 1 ? "" : "s"}`, rows });
    };
    await measure("API: GET /containers/json?all=1", (engine) => ok(engine, "/v1.41/containers/json?all=1"));
    await measure("API: GET /containers/{id}/json", (engine) => ok(engine, `/v1.41/containers/ps-${count - 1}/json`));
    await measure("API: a new connection, HEAD /_ping, GET /containers/json?all=1", (engine) => likeDocker(engine, "/v1.41/containers/json?all=1"));
    await measure("API: a new connection, HEAD /_ping, GET /containers/{id}/json", (engine) => likeDocker(engine, `/v1.41/containers/ps-${count - 1}/json`));
    if (withDocker) {
      await measure("docker ps -a", (engine) => docker(engine, "ps", "-a"));
      await measure("docker inspect, one", (engine) => docker(engine, "inspect", `ps-${count - 1}`));
    }
  }
  return tables;
}
