/**
 * What a container's log needs besides its monitor, which writes it: the service that its lines go to, and the compression of rotated files. Both go on after the
 * container's end until they are done, and with a new engine where they stopped.
 * @module
 */
import type { Container } from "#container/container.ts";
import { compressRotated } from "#container/logs/compress-log.ts";
import { planDelivery, planLog } from "#container/logs/log-drivers.ts";
import { openLogService } from "#container/logs/services/mod.ts";
import { shipLog } from "#container/logs/ship-log.ts";
import { systemClock } from "#core/clock.ts";
import { EngineError } from "#core/errors.ts";
import type { MonitorLink } from "#linux/helper.ts";
import type { EngineContext } from "./context.ts";

/** Before a start. @throws EngineError when its log's service is not there */
export async function requireLogService(ctx: EngineContext, { record }: Container): Promise<void> {
  const service = openLogService(record, ctx.helper);
  if (service === undefined) return;
  try {
    await service.check();
  } catch (cause) {
    throw new EngineError("internal", `failed to create task for container: failed to initialize logging driver: ${(cause as Error).message}`, {
      cause,
      hint: `start the ${record.hostConfig.LogConfig.Type} service, or name another --log-driver`,
    });
  } finally {
    service.close();
  }
}

/** Of one that runs (`link`), or has ended with lines that may not be delivered yet. */
export function keepLog(ctx: EngineContext, container: Container, link: MonitorLink | undefined): void {
  const { record } = container;
  const { logPath: path, name } = record;
  const plan = planLog(record.hostConfig.LogConfig);
  const delivery = planDelivery(record.hostConfig.LogConfig);
  if (path === "" || plan === undefined || (delivery === undefined && !plan.compress)) return;
  const before = container.logKeeper;
  const stop = before?.stop ?? new AbortController();
  const ended = link === undefined ? Promise.resolve() : link.exited;
  const work = async () => {
    await before?.done; // of an earlier run: lines stay in their order
    await Promise.all([
      delivery === undefined ? undefined : deliver(delivery.dropAboveBytes),
      plan.compress
        ? compressRotated({
            path,
            maxFiles: plan.maxFiles,
            fetchedOnly: delivery !== undefined && delivery.dropAboveBytes === undefined,
            ended,
            signal: stop.signal,
            replace: (ino) => container.link?.logPacked(ino),
          })
        : undefined,
    ]);
  };
  const deliver = async (dropAboveBytes: number | undefined) => {
    const service = openLogService(record, ctx.helper);
    if (service === undefined) return;
    const warn = (message: string) => ctx.log("warn", `log of container ${name}: ${message}`);
    await shipLog({ path, cursorPath: `${path}.cursor`, service, dropAboveBytes, ended, signal: stop.signal, warn });
  };
  const done = work().catch((error: unknown) => ctx.log("warn", `log of container ${name}: ${(error as Error).message}`));
  container.logKeeper = { stop, done };
}

/** Before its files go: so long may a service take for the last lines. */
const LAST_LINES_MS = 5000;

/** Of a container that is being removed. */
export async function endLogKeeper(container: Container): Promise<void> {
  const keeper = container.logKeeper;
  if (keeper === undefined) return;
  const enough = new AbortController();
  await Promise.race([keeper.done, systemClock.sleep(LAST_LINES_MS, enough.signal).catch(() => undefined)]);
  enough.abort();
  keeper.stop.abort(new Error("the container is removed"));
  await keeper.done;
  container.logKeeper = undefined;
}
