// A start from an image of 120 layers beside one of a single layer: busybox, and busybox under 119 layers of a small file each.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { archive, layer, membersOf } from "./images.mjs";
import { alternate } from "./measure.mjs";

const deep = 120;

/** For each engine (which has `busybox`): [{title, rows}]. */
export async function measureChains(engines, base, runs) {
  const dir = join(base, "chains");
  mkdirSync(dir, { recursive: true });
  await engines[0].cli(["save", "-o", join(dir, "busybox.tar"), "busybox"]);
  const members = membersOf(readFileSync(join(dir, "busybox.tar")));
  const [manifest] = JSON.parse(members.get("manifest.json"));
  const bottom = manifest.Layers.map((name) => members.get(name));
  const { config } = JSON.parse(members.get(manifest.Config));
  const deepLayers = [...bottom, ...Array.from({ length: deep - bottom.length }, (_, i) => layer(`l${i}`, 1, 100))];
  writeFileSync(join(dir, "deep.tar"), archive("bench-deep", deepLayers, config));
  writeFileSync(join(dir, "flat.tar"), archive("bench-flat", bottom, config));
  const tables = [];
  for (const e of engines) {
    for (const name of ["deep", "flat"]) await e.cli(["load", "-q", "-i", join(dir, `${name}.tar`)]);
    const start = (image) => () => e.cli(["run", "--rm", "--network", "none", image, "true"]);
    const rows = await alternate({ [`1 layer, ${e.name}`]: start("bench-flat"), [`${deep} layers, ${e.name}`]: start("bench-deep") }, runs, 5);
    tables.push({ title: `run of an image of ${deep} layers, ${e.name}: ${(rows[1].medianMs - rows[0].medianMs).toFixed(2)} ms more`, rows });
    await e.cli(["rmi", "bench-flat", "bench-deep"]);
  }
  return tables;
}
