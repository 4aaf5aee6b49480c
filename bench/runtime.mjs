#!/usr/bin/env node
// OCI runtimes beside each other: `run` of a `runc spec` bundle whose program is true. Called by bench.mjs, in a mount namespace without the unified
// hierarchy beside those of cgroup v1, where crun does not run; our daemon is started in there too.
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { alternate } from "./measure.mjs";
import { run, startWherry } from "./peers.mjs";

const unified = "/sys/fs/cgroup/unified";

/** The rows of {@link alternate}, measured in a process of its own. */
export function measureRuntimes(dist, base, runs) {
  const self = [process.execPath, fileURLToPath(import.meta.url), dist, base, String(runs)];
  const [program, ...args] = existsSync(`${unified}/cgroup.procs`) ? ["unshare", "--mount", "sh", "-c", `umount ${unified} && exec "$@"`, "sh", ...self] : self;
  const done = spawnSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  if (done.status !== 0) throw new Error(`the runtimes could not be measured: exit ${done.status}`);
  return JSON.parse(done.stdout);
}

function makeBundle(directory) {
  mkdirSync(join(directory, "rootfs/bin"), { recursive: true });
  copyFileSync("/bin/busybox", join(directory, "rootfs/bin/busybox"));
  symlinkSync("busybox", join(directory, "rootfs/bin/true"));
}

async function main(dist, base, runs) {
  const directory = join(base, "runtimes");
  const bundle = join(directory, "bundle");
  makeBundle(bundle);
  const runtime = join(dist, "bin/wherry-runtime");
  const spec = JSON.parse((await run("sh", ["-c", `cd "$1" && "$2" spec && cat config.json`, "sh", bundle, runtime])) || "{}");
  spec.ociVersion = "1.0.2"; // Debian's crun knows no later one
  spec.process.terminal = false;
  spec.process.args = ["true"];
  writeFileSync(join(bundle, "config.json"), JSON.stringify(spec));
  const daemon = await startWherry(dist, directory, `r${process.pid.toString(36)}`);
  try {
    let count = 0;
    const contender = (name, program, env) => () =>
      run(program, ["--root", join(directory, name), "run", "--bundle", bundle, `${name}-${count++}`], { env, stdout: "ignore" });
    const contenders = {
      "wherry-runtime": contender("warm", runtime, { WHERRY_HOST: `unix://${daemon.socket}` }),
      "without daemon": contender("cold", runtime, { WHERRY_HOST: `unix://${directory}/none.sock` }),
    };
    for (const name of ["crun", "runc"]) {
      const peer = contender(name, name, {});
      try {
        await peer();
        contenders[name] = peer;
      } catch (error) {
        console.error(`note: ${name} is left out: ${error.message}`);
      }
    }
    process.stdout.write(JSON.stringify(await alternate(contenders, runs, 5)));
  } finally {
    await daemon.stop();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv[2], process.argv[3], Number(process.argv[4]));
