// Measuring: alternating runs, medians, ratios, CPU time of everything that ran.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

/** Busy CPU time of the whole machine so far, in ms (all processes of all engines count; run on a quiet machine). */
export function busyCpuMs() {
  const [user, nice, system, , , irq, softirq] = readFileSync("/proc/stat", "utf8").split("\n")[0].split(/\s+/).slice(1).map(Number);
  return (user + nice + system + irq + softirq) * 10;
}

/** CPU time of one process (and its reaped children), in ms. */
export function processCpuMs(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12]) + Number(fields[13]) + Number(fields[14])) * 10;
}

/** Proportional set size in KiB. */
export function pssKiB(pid) {
  return Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? 0);
}

/** Waits until what the last contender has left to do (files to write, or to delete) is done, five seconds at most: the next one does not pay for it. */
export async function settle() {
  spawnSync("sync");
  for (let tries = 0; tries < 25; tries++) {
    const before = busyCpuMs();
    await new Promise((resolve) => setTimeout(resolve, 200));
    if (busyCpuMs() - before <= 20) return;
  }
}

export const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const mid = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[mid] : (sorted[mid - 1] + sorted[mid]) / 2;
};

const finished = (afterwards) => (typeof afterwards === "function" ? afterwards() : undefined);

/**
 * Runs each contender `runs` times, alternating and each time beginning with another, after `warm` unmeasured runs. Before each run the machine comes to rest: podman's
 * clean-up of an exec, for one, goes on for a quarter of a second after the answer, and deletions of ours come a tenth of a second later.
 * @param contenders {name: async () => what is to be done afterwards, unmeasured, or nothing}; the first is ours, ratios are relative to it.
 */
export async function alternate(contenders, runs, warm = 3) {
  const names = Object.keys(contenders);
  const wall = Object.fromEntries(names.map((n) => [n, []]));
  const cpu = Object.fromEntries(names.map((n) => [n, 0]));
  for (let i = 0; i < warm; i++) for (const n of names) await finished(await contenders[n]());
  for (let i = 0; i < runs; i++) {
    const first = i % names.length;
    for (const n of [...names.slice(first), ...names.slice(0, first)]) {
      await settle();
      const cpuBefore = busyCpuMs();
      const before = performance.now();
      const afterwards = await contenders[n]();
      wall[n].push(performance.now() - before);
      cpu[n] += busyCpuMs() - cpuBefore;
      await finished(afterwards);
    }
  }
  const base = median(wall[names[0]]);
  return names.map((name) => {
    const m = median(wall[name]);
    return { name, medianMs: m, minMs: Math.min(...wall[name]), maxMs: Math.max(...wall[name]), ratio: m / base, cpuMs: cpu[name] / runs, runs };
  });
}

/** An aligned table of rows (arrays of cells). */
export function table(rows) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((r) => String(r[i]).length)));
  return rows.map((r) => r.map((c, i) => (i === 0 ? String(c).padEnd(widths[i]) : String(c).padStart(widths[i]))).join("  ")).join("\n");
}
