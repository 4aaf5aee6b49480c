/** Where the docker CLI's plug-ins are: those that scripts/fetch-cli-plugins.mjs has unpacked, else this machine's. @module */
import { copyFileSync, existsSync, mkdirSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

const folders = [
  fileURLToPath(new URL("../../node_modules/.cache/cli-plugins", import.meta.url)),
  "/usr/libexec/docker/cli-plugins",
  "/usr/lib/docker/cli-plugins",
];

/** The program of a plug-in as docker-buildx; undefined where there is none. */
export function cliPlugin(name: string): string | undefined {
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
}

/** Puts plug-ins, as far as there are such, where a CLI with this configuration directory finds them. */
export function installPlugins(config: string, ...plugins: readonly (string | undefined)[]): void {
  const folder = join(config, "cli-plugins");
  mkdirSync(folder, { recursive: true });
  for (const path of plugins) if (path !== undefined) copyFileSync(path, join(folder, basename(path)));
}
