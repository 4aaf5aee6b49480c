/** The stock docker CLI, when this machine has one. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** Its path; undefined (and the reason on stderr) when there is none. */
export async function dockerCli(): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)("docker", ["--version"]);
    if (/^Docker version \d+/.test(stdout)) return "docker";
    process.stderr.write(`skipped: "docker --version" says ${JSON.stringify(stdout)}\n`);
  } catch (error) {
    process.stderr.write(`skipped: no docker CLI here (${(error as Error).message})\n`);
  }
  return undefined;
}
