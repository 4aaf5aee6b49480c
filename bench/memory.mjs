// Memory of an engine: the proportional set size of all its processes, without the containers' own.
import { readdirSync, readFileSync } from "node:fs";
import { pssKiB } from "./measure.mjs";

const settle = () => new Promise((resolve) => setTimeout(resolve, 3000));

/** What /proc tells of a process now; undefined when it has ended. */
function look(pid) {
  try {
    const [, parent] = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ");
    return { pid, parent: Number(parent), command: readFileSync(`/proc/${pid}/cmdline`, "utf8") };
  } catch {
    return undefined; // it ended between the listing and the read
  }
}

/** PSS in MiB of the daemon, its descendants, and whoever names its directory on the command line (shims leave their parent). */
function engineMiB(engine) {
  const all = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => look(Number(name)))
    .filter((p) => p !== undefined);
  const mine = new Set(all.filter((p) => p.pid === engine.pid || p.command.includes(engine.directory)).map((p) => p.pid));
  for (let grown = true; grown; ) {
    grown = false;
    for (const { pid, parent } of all) if (mine.has(parent) && !mine.has(pid)) grown = !!mine.add(pid);
  }
  let kib = 0;
  for (const { pid, command } of all) {
    if (!mine.has(pid) || pid === process.pid || command.startsWith("sleep\0")) continue;
    try {
      kib += pssKiB(pid);
    } catch {
      // it ended meanwhile: it has no memory
    }
  }
  return kib / 1024;
}

/** Idle, and for each of `count` running containers. */
export async function measureMemory(engine, count) {
  await settle();
  const idleMiB = engineMiB(engine);
  const names = Array.from({ length: count }, (_, i) => `bench-mem-${i}`);
  for (const name of names) await engine.cli(["run", "-d", "--name", name, "--network", "none", "busybox", "sleep", "100000"]);
  await settle();
  const perContainerMiB = (engineMiB(engine) - idleMiB) / count;
  for (const name of names) await engine.cli(["rm", "-f", name]);
  return { idleMiB, perContainerMiB };
}
