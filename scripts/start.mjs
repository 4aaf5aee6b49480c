#!/usr/bin/env node
// `npm start`: sets everything up, then shows a container, or runs the wherry command that was given.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { ensureBuild, ensureDependencies, root } from "./setup.mjs";

if (process.getuid() !== 0) {
  console.error("wherry: containers need root here: run this as root (sudo npm start)");
  process.exit(1);
}
ensureDependencies();
ensureBuild();

const wherry = join(root, "dist/bin/wherry");
/** Runs the stub with the terminal; the caller's directory is where npm was started. */
const run = (args, options = {}) => spawnSync(wherry, args, { stdio: "inherit", cwd: process.env.INIT_CWD ?? process.cwd(), ...options });

const args = process.argv.slice(2);
if (run(["image", "inspect", "busybox"], { stdio: "ignore" }).status !== 0) {
  console.error("· making a base image (wherry image bootstrap busybox)");
  const made = run(["image", "bootstrap", "busybox"], { stdio: ["ignore", 2, 2] });
  if (made.status !== 0) process.exit(made.status ?? 1);
}
if (args.length > 0) process.exit(run(args).status ?? 125);

const look = `
echo "A container, as it sees itself"
echo "  pid         $$   (it is process 1 of $(ls -d /proc/[0-9]* | wc -l) that it can see)"
echo "  user        $(id)"
echo "  hostname    $(hostname)"
echo "  root        / with $(ls / | tr '\\n' ' ')"
echo "              $(grep ' / / ' /proc/self/mountinfo | sed 's/.* - //' | cut -d' ' -f1) filesystem, read-only layers below one writable layer"
echo "  interfaces  $(ls /sys/class/net | tr '\\n' ' ')"
limit=$(cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null | head -n 1)
pids=$(cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null | head -n 1)
echo "  limits      memory $((limit / 1048576)) MiB, processes $pids, $(grep Seccomp: /proc/self/status | sed 's/.*2/system calls filtered/')"
echo "  capabilities $(grep CapEff /proc/self/status | cut -f2)"
`;
const shown = run(["run", "--rm", "--network", "none", "--memory", "64m", "--pids-limit", "32", "--hostname", "first", "busybox", "sh", "-c", look]);
if (shown.status !== 0) process.exit(shown.status ?? 125);
console.log(`
Go on:
  npm start -- run -it busybox              a shell of your own in a container
  npm start -- run --explain busybox true   every step that makes one, and why
  npm start -- ps -a                        any wherry command (--help lists them)
  DOCKER_HOST=unix:///run/wherry/wherry.sock docker ps    the stock docker CLI
  docs/guide/                               namespaces, cgroups, union filesystem, images`);
