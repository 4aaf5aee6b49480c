/**
 * The daemon: an engine over its data root, behind the API server and the stub's command line.
 * @module
 */
import { readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createInProcessClient } from "#api/client/in-process.ts";
import { createApiServer, type TlsSecrets } from "#api/server/mod.ts";
import { isEngineError } from "#core/errors.ts";
import { openEngine } from "#engine/open-engine.ts";
import { version } from "#engine/version.ts";
import { serveCli } from "./cli-server.ts";
import { serveRuntime } from "./serve-runtime.ts";
import { rehearseLater } from "./rehearse.ts";
import { type DaemonOptions, help, type LogLevel, parseDaemonOptions, type TlsFiles, UsageError } from "./daemon-options.ts";

const started = performance.now();
// The launcher's, for this process; glibc has read them.
for (const name of ["MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"]) delete process.env[name];
const severities: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 };

type Log = (level: LogLevel, message: string) => void;

/** One line for each message; a service manager adds what else it wants to know. */
function createLog(least: LogLevel): Log {
  return (level, message) => {
    if (severities[level] >= severities[least]) process.stderr.write(`${new Date().toISOString()} ${level.padEnd(5)} ${message}\n`);
  };
}

/** Beside this file in the package; in the checkout, in dist. */
function helperPath(): string {
  const here = fileURLToPath(import.meta.url);
  return fileURLToPath(new URL(here.endsWith(".ts") ? "../../dist/bin/wherry-helper" : "./bin/wherry-helper", import.meta.url));
}

async function serve(options: DaemonOptions): Promise<void> {
  const log = createLog(options.logLevel);
  log("info", `wherryd ${version} (pid ${process.pid}, Node ${process.versions.node}), data in ${options.dataRoot}, sockets in ${options.execRoot}`);
  const stopping = new Promise<NodeJS.Signals>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, resolve);
  });
  process.on("SIGHUP", () => undefined); // a terminal that closes is no reason to end
  await mkdir(options.execRoot, { recursive: true, mode: 0o711 });
  const engine = await openEngine({
    dataRoot: options.dataRoot,
    execRoot: options.execRoot,
    helperPath: helperPath(),
    log,
    labels: options.labels,
    defaultLogDriver: options.logDriver,
    defaultLogOpts: options.logOpts,
    ...(options.storageBudgetBytes === undefined ? {} : { storageBudgetBytes: options.storageBudgetBytes }),
    ...(options.buildCacheBudgetBytes === undefined ? {} : { buildCacheBudgetBytes: options.buildCacheBudgetBytes }),
    ...(options.storageDriver === undefined ? {} : { storageDriver: options.storageDriver }),
    storageOpts: options.storageOpts,
    ...(options.cgroupParent === undefined ? {} : { cgroupParent: options.cgroupParent }),
    ...(options.cpuRealtime === undefined ? {} : { cpuRealtime: options.cpuRealtime }),
    ...(options.cdiSpecDirs === undefined ? {} : { cdiSpecDirs: options.cdiSpecDirs }),
    selinuxEnabled: options.selinuxEnabled,
    ...(options.usernsRemap === undefined ? {} : { usernsRemap: options.usernsRemap }),
    cgroupDriver: options.cgroupDriver,
    registry: options.registry,
    ...(options.bridge === undefined ? {} : { bridge: options.bridge }),
  });
  try {
    const socketsFile = join(options.dataRoot, "sockets.json");
    const server = createApiServer(engine, { version, log, socketsFile, ...(options.tls === undefined ? {} : { tls: readTls(options.tls) }) });
    const listening = await server.listen(options.hosts);
    await server.restoreSockets();
    const cli = await serveCli({
      socketPath: join(options.execRoot, "cli.sock"),
      client: createInProcessClient({ dispatch: server.dispatch, host: listening.addresses[0] ?? "" }),
      log,
    });
    if (options.pidFile !== undefined) writeFileSync(options.pidFile, `${process.pid}\n`);
    const { kernel, cgroup } = engine.system.facts();
    const running = engine.containers.list({ all: false, limit: undefined, filters: {} }).length;
    log("info", `Linux ${kernel.release}, cgroup ${cgroup.mode}; ${running} container${running === 1 ? "" : "s"} running`);
    log("info", `ready after ${Math.round(performance.now() - started)} ms: ${listening.addresses.join(", ")}`);
    const runtime = await serveRuntime(join(options.execRoot, "oci/runtime.sock"), log);
    const ending = new AbortController();
    const rehearsed = rehearseLater(engine, log, ending.signal);
    log("info", `${await stopping}: no more requests are served; containers go on`);
    ending.abort();
    await rehearsed;
    await Promise.all([cli.close(), runtime.close()]);
    await server.close();
  } finally {
    await engine.close();
    if (options.pidFile !== undefined) removeFile(options.pidFile);
  }
}

function readTls({ cert, key, ca }: TlsFiles): TlsSecrets {
  const read = (path: string): Buffer => {
    try {
      return readFileSync(path);
    } catch (error) {
      throw new UsageError(`cannot read ${path}: ${(error as Error).message}`);
    }
  };
  return { cert: read(cert), key: read(key), ...(ca === undefined ? {} : { ca: read(ca) }) };
}

function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

/** Exit codes: 0, 1 failed, 2 wrong usage. */
async function main(args: readonly string[]): Promise<number> {
  try {
    const options = parseDaemonOptions(args);
    if (options === "help") process.stdout.write(help);
    else if (options === "version") process.stdout.write(`wherryd version ${version}\n`);
    else await serve(options);
    return 0;
  } catch (error) {
    if (error instanceof UsageError) {
      process.stderr.write(`wherryd: ${error.message}\n`);
      return 2;
    }
    if (!isEngineError(error)) throw error;
    process.stderr.write(`wherryd: ${error.message}\n${error.hint === undefined ? "" : `  ${error.hint}\n`}`);
    return 1;
  }
}

void main(process.argv.slice(2)).then((code) => process.exit(code));
