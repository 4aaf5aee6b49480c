/**
 * systemd's service manager, as far as cgroups need it.
 * @module
 * @see org.freedesktop.systemd1(5)
 */
import { existsSync } from "node:fs";
import { EngineError } from "#core/errors.ts";
import { DbusConnection, DbusError } from "#linux/dbus/connection.ts";
import type { DbusMessage, DbusValue } from "#linux/dbus/marshal.ts";
import type { Properties } from "./units.ts";

/** Root talks to systemd directly; where that socket is missing (a container with the host's bus), over the system bus. */
const PRIVATE = "/run/systemd/private";
const SYSTEM_BUS = "/run/dbus/system_bus_socket";

const MANAGER = { destination: "org.freedesktop.systemd1", path: "/org/freedesktop/systemd1", interface: "org.freedesktop.systemd1.Manager" } as const;
const BUS = { destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus" } as const;

/** How long a unit may take to start or stop. */
const JOB_TIMEOUT_MS = 30_000;

export class ServiceManager {
  #bus: Promise<DbusConnection> | undefined;
  /** Jobs that somebody waits for, or that were done before somebody could. */
  readonly #done = new Map<string, string>();
  readonly #waiting = new Map<string, (result: string) => void>();
  #calls = 0;

  /** Makes and starts a unit; `existing` ones are left as they are. EngineError "kernel" with systemd's words. */
  async start(name: string, properties: DbusValue, { existing }: { readonly existing: "accept" | "refuse" }): Promise<void> {
    const accepted = existing === "accept" ? ["org.freedesktop.systemd1.UnitExists"] : [];
    const result = await this.#job("StartTransientUnit", "ssa(sv)a(sa(sv))", [name, "replace", properties, []], `start ${name}`, accepted);
    if (result !== undefined && result !== "done") throw new EngineError("kernel", `systemd cannot start ${name}: the job ended with "${result}"`);
  }

  /** Stops a unit and takes a failed one off the list; a missing one is no error. */
  async stop(name: string): Promise<void> {
    const gone = ["org.freedesktop.systemd1.NoSuchUnit"];
    await this.#job("StopUnit", "ss", [name, "replace"], `stop ${name}`, gone);
    await this.#call("ResetFailedUnit", "s", [name], `reset ${name}`, gone);
  }

  /** Changes properties of a running unit, until it ends. EngineError "not-found" when it has ended. */
  async set(name: string, properties: Properties): Promise<void> {
    if (properties.length === 0) return;
    const gone = ["org.freedesktop.systemd1.NoSuchUnit"];
    const answer = await this.#call("SetUnitProperties", "sba(sv)", [name, true, properties], `change ${name}`, gone);
    if (answer === undefined) throw new EngineError("not-found", `no such unit: ${name}`);
  }

  close(): void {
    void this.#bus?.then(
      (bus) => bus.close(),
      () => undefined,
    );
    this.#bus = undefined;
  }

  /** The result of the job that the method starts; undefined when it failed with one of `accepted`. */
  async #job(member: string, signature: string, body: DbusValue[], what: string, accepted: readonly string[]): Promise<string | undefined> {
    this.#calls++;
    try {
      const answer = await this.#call(member, signature, body, what, accepted);
      if (answer === undefined) return undefined;
      const job = String(answer[0]);
      const done = this.#done.get(job);
      if (done !== undefined) return done;
      return await new Promise<string>((resolve, reject) => {
        const timer = setTimeout(() => {
          this.#waiting.delete(job);
          reject(new EngineError("unavailable", `systemd did not ${what} within ${JOB_TIMEOUT_MS / 1000} s`));
        }, JOB_TIMEOUT_MS);
        this.#waiting.set(job, (result) => {
          clearTimeout(timer);
          resolve(result);
        });
      });
    } finally {
      if (--this.#calls === 0) this.#done.clear();
    }
  }

  async #call(member: string, signature: string, body: DbusValue[], what: string, accepted: readonly string[] = []): Promise<readonly DbusValue[] | undefined> {
    try {
      return await (await this.#connection()).call({ ...MANAGER, member, signature, body });
    } catch (error) {
      if (!(error instanceof DbusError)) throw error;
      if (accepted.includes(error.dbusName)) return undefined;
      throw new EngineError("kernel", `systemd cannot ${what}: ${error.message}`, { cause: error });
    }
  }

  /** Opened when first needed, and again after systemd was re-executed. */
  async #connection(): Promise<DbusConnection> {
    const open = await this.#bus?.catch(() => undefined); // its caller was told
    if (open !== undefined && !open.closed) return open;
    this.#bus = this.#open();
    return await this.#bus;
  }

  async #open(): Promise<DbusConnection> {
    const direct = existsSync(PRIVATE);
    const bus = await DbusConnection.open(direct ? PRIVATE : SYSTEM_BUS, (message) => this.#signal(message));
    if (!direct) {
      await bus.call({ ...BUS, member: "Hello" });
      const rule = `type='signal',interface='${MANAGER.interface}',member='JobRemoved'`;
      await bus.call({ ...BUS, member: "AddMatch", signature: "s", body: [rule] });
      // On a direct connection every signal comes unasked.
      await bus.call({ ...MANAGER, member: "Subscribe" });
    }
    return bus;
  }

  #signal({ member, body }: DbusMessage): void {
    if (member !== "JobRemoved") return;
    const [job, result] = [String(body[1]), String(body[3])];
    const waiter = this.#waiting.get(job);
    this.#waiting.delete(job);
    if (waiter !== undefined) waiter(result);
    else if (this.#calls > 0) this.#done.set(job, result);
  }
}
