#!/usr/bin/env node
// Unpacks docker's buildx and compose 2 of a newer Debian suite into node_modules/.cache/cli-plugins, for the tests that build with them. The package lists and packages stay in
// that directory: nothing of this machine's apt is changed. Says why when they cannot be had; that is no error.
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const suite = process.env.WHERRY_PLUGIN_SUITE ?? "sid";
const packages = ["docker-buildx", "docker-compose"];
const target = join(dirname(dirname(fileURLToPath(import.meta.url))), "node_modules/.cache/cli-plugins");

function run(command, args, options = {}) {
  return execFileSync(command, args, { encoding: "utf8", timeout: 240_000, stdio: ["ignore", "pipe", "pipe"], ...options });
}

function fetchAll(work) {
  const site = run("apt-get", ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
    .split("\n")
    .find((uri) => /\/debian\/?$/.test(uri));
  if (site === undefined) throw new Error("this machine has no Debian package source");
  for (const folder of ["lists/partial", "cache/archives/partial", "debs", "root"]) mkdirSync(join(work, folder), { recursive: true });
  writeFileSync(join(work, "sources.list"), `deb ${site} ${suite} main\n`);
  const settings = { "Dir::State::lists": "lists", "Dir::Cache": "cache", "Dir::Etc::sourcelist": "sources.list" };
  const lines = Object.entries(settings).map(([name, path]) => `${name} "${join(work, path)}";`);
  writeFileSync(join(work, "apt.conf"), `${lines.join("\n")}\nDir::Etc::sourceparts "-";\nAPT::Sandbox::User "root";\n`);
  const env = { ...process.env, APT_CONFIG: join(work, "apt.conf") };
  run("apt-get", ["update", "-q"], { env });
  run("apt-get", ["download", "-q", ...packages.map((name) => `${name}/${suite}`)], { env, cwd: join(work, "debs") });
  for (const name of readdirSync(join(work, "debs"))) run("dpkg-deb", ["-x", join(work, "debs", name), join(work, "root")]);
  const plugins = join(work, "root/usr/libexec/docker/cli-plugins");
  mkdirSync(target, { recursive: true });
  for (const name of readdirSync(plugins)) copyFileSync(join(plugins, name), join(target, name));
}

if (existsSync(join(target, "docker-buildx"))) process.exit(0);
const work = mkdtempSync(join(tmpdir(), "wherry-plugins-"));
try {
  fetchAll(work);
} catch (error) {
  console.log(
    `note: no docker-buildx of ${suite} here: ${String(error.stderr || error.message)
      .trim()
      .split("\n")
      .at(-1)}`,
  );
} finally {
  rmSync(work, { recursive: true, force: true });
}
