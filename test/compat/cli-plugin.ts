/** Where the docker CLI's plug-ins are: those that scripts/fetch-cli-plugins.mjs has unpacked, else this machine's. @module */
import { existsSync } from "node:fs";
import { join } from "node:path";
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
