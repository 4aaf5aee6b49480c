// What `npm start` and `npm test` share: dependencies and a fresh build, done only when something changed.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

const newest = (paths) =>
  Math.max(
    ...paths.map((p) => {
      const full = join(root, p);
      if (!existsSync(full)) return 0;
      const s = statSync(full);
      if (!s.isDirectory()) return s.mtimeMs;
      return Math.max(s.mtimeMs, ...readdirSync(full, { recursive: true }).map((f) => statSync(join(full, String(f))).mtimeMs));
    }),
  );

/** Runs a command; ends this process with a message when it fails. */
export function must(title, command, args, options = {}) {
  const r = spawnSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"], ...options });
  if (r.error || r.status !== 0) {
    console.error(`wherry: ${title} failed: ${command} ${args.join(" ")}: ${r.error ? r.error.message : `exit ${r.status ?? r.signal}`}`);
    process.exit(1);
  }
}

/** Dependencies: `npm ci` when node_modules is missing or older than the lock file. */
export function ensureDependencies() {
  const marker = join(root, "node_modules/.package-lock.json");
  if (existsSync(marker) && statSync(marker).mtimeMs >= statSync(join(root, "package-lock.json")).mtimeMs - 1) return;
  console.error("· installing dependencies (npm ci)");
  must("installing dependencies", "npm", ["ci", "--no-fund", "--no-audit", "--loglevel=error"], { stdio: ["ignore", "ignore", "inherit"] });
}

/** dist/ when a source is newer than it. */
export function ensureBuild() {
  const built = join(root, "dist/wherryd.cjs");
  const programs = ["dist/bin/wherry", "dist/bin/wherry-helper", "dist/bin/wherryd", "dist/cli.cjs"];
  if (
    existsSync(built) &&
    programs.every((p) => existsSync(join(root, p))) &&
    statSync(built).mtimeMs > newest(["src", "native", "scripts/build.mjs", "scripts/build-native.mjs", "package.json"])
  )
    return;
  console.error("· building (TypeScript and the C helper)");
  must("the build", process.execPath, ["scripts/build.mjs", "--fast"]);
}
