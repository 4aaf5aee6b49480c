/** Starting wherryd for a command that found none. @module */
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { ConnectionError } from "#api/client/mod.ts";

/** A daemon that has many containers to look after at its start may take a while. */
const patienceMs = 20_000;
const pollMs = 15;

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    const settle = (up: boolean) => {
      socket.destroy();
      resolve(up);
    };
    socket.once("connect", () => settle(true)).once("error", () => settle(false));
  });
}

/** The end of the daemon's own words. */
function lastWords(logPath: string): string {
  try {
    return readFileSync(logPath, "utf8")
      .trim()
      .split("\n")
      .slice(-12)
      .map((line) => `  ${line}`)
      .join("\n");
  } catch {
    return "  (it left no log)";
  }
}

export interface DaemonStart {
  readonly socketPath: string;
  /** wherryd. */
  readonly program: string;
  readonly env: NodeJS.ProcessEnv;
  readonly tell: (line: string) => void;
}

/** Resolves when a daemon answers at this socket; starts one if need be and tells so. Throws ConnectionError with what to do. */
export async function ensureDaemon(options: DaemonStart): Promise<void> {
  const { socketPath, program, env, tell } = options;
  if (await answers(socketPath)) return;
  const directory = dirname(socketPath);
  const hint = "start it as root (wherryd, or sudo wherry ...), or set WHERRY_HOST to one that runs";
  if (process.geteuid?.() !== 0) throw new ConnectionError(`Cannot connect to the wherry daemon at unix://${socketPath}. Is wherryd running?\nHint: ${hint}`);
  const logPath = join(directory, "wherryd.log");
  mkdirSync(directory, { recursive: true, mode: 0o711 });
  const log = openSync(logPath, "a", 0o600);
  const { NODE_EXTRA_CA_CERTS: certificates, ...rest } = env;
  const daemonEnv = certificates === undefined || certificates === "" ? rest : { ...rest, WHERRY_EXTRA_CA_CERTS: certificates };
  const daemon = spawn(program, [], { detached: true, stdio: ["ignore", log, log], cwd: "/", env: daemonEnv });
  closeSync(log);
  let ended: string | undefined;
  daemon.once("error", (error) => {
    ended = `could not be started: ${error.message}`;
  });
  daemon.once("exit", (code, signal) => {
    ended = `ended at once (${signal ?? `exit code ${code}`}):\n${lastWords(logPath)}`;
  });
  daemon.unref();
  const deadline = performance.now() + patienceMs;
  while (!(await answers(socketPath))) {
    if (ended !== undefined) {
      // Two commands may have tried at the same time: then the other's daemon is as good.
      if (await answers(socketPath)) return;
      throw new ConnectionError(`wherry: the daemon ${ended}\nHint: run ${program} in a terminal to see more; its log is ${logPath}`);
    }
    if (performance.now() > deadline)
      throw new ConnectionError(`wherry: the daemon (pid ${daemon.pid}) does not answer at ${socketPath}\nHint: its log is ${logPath}`);
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
  tell(`wherry: started the daemon (wherryd, pid ${daemon.pid}; log ${logPath})`);
}
