/**
 * firewalld rejects what is forwarded from and to interfaces that are in none of its zones. It is told that our bridges are in the zone `trusted`, as Docker tells it of
 * its own (there by a zone that it makes): then our own table decides. What it is told at run time it forgets when it is reloaded or started again, so it is told again.
 * @module
 * @see firewalld.dbus(5)
 */
import { isEngineError } from "#core/errors.ts";
import { DbusConnection, DbusError } from "#linux/dbus/connection.ts";
import { type DbusMessage, MESSAGE } from "#linux/dbus/marshal.ts";

const SYSTEM_BUS = "/run/dbus/system_bus_socket";
const BUS = { destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus" } as const;
const NAME = "org.fedoraproject.FirewallD1";
const ZONES = { destination: NAME, path: "/org/fedoraproject/FirewallD1", interface: `${NAME}.zone` } as const;
const ZONE = "trusted";
/** What its errors begin with: the interface is there already, in this zone or (the administrator's choice) in another; or it is not. */
const SETTLED = /^(ALREADY_ENABLED|ZONE_ALREADY_SET|ZONE_CONFLICT|UNKNOWN_INTERFACE|NOT_ENABLED)\b/;

export interface FirewalldOptions {
  readonly log: (level: "info" | "warn", message: string) => void;
  /** The system bus's socket. */
  readonly bus?: string;
}

export class Firewalld {
  readonly #log: FirewalldOptions["log"];
  readonly #path: string;
  /** Bridges that it has been, or is to be, told of. */
  readonly #interfaces = new Set<string>();
  #bus: Promise<DbusConnection> | undefined;
  #running = false;
  #closed = false;

  constructor({ log, bus = SYSTEM_BUS }: FirewalldOptions) {
    this.#log = log;
    this.#path = bus;
  }

  /** Resolves when firewalld, if it runs, lets this bridge through. Never rejects: what it refuses is logged, with what to do. */
  async add(name: string): Promise<void> {
    this.#interfaces.add(name);
    if ((await this.#connected()) && this.#running) await this.#tell("addInterface", name);
  }

  async remove(name: string): Promise<void> {
    if (!this.#interfaces.delete(name)) return;
    if ((await this.#connected()) && this.#running) await this.#tell("removeInterface", name);
  }

  close(): void {
    this.#closed = true;
    void this.#bus?.then(
      (bus) => bus.close(),
      () => undefined, // there was none
    );
  }

  /** False where there is no bus, and so no firewalld that could be spoken to. */
  async #connected(): Promise<boolean> {
    if (this.#closed) return false;
    const bus = await this.#bus?.catch(() => undefined); // whoever opened it was told
    if (bus !== undefined && !bus.closed) return true;
    this.#bus = this.#open();
    try {
      await this.#bus;
      return true;
    } catch (error) {
      if (!isEngineError(error, "unavailable") && !(error instanceof DbusError)) throw error;
      return false;
    }
  }

  async #open(): Promise<DbusConnection> {
    this.#running = false;
    const bus = await DbusConnection.open(this.#path, (message) => this.#signal(message));
    await bus.call({ ...BUS, member: "Hello" });
    for (const rule of [
      `type='signal',sender='${BUS.destination}',interface='${BUS.interface}',member='NameOwnerChanged',arg0='${NAME}'`,
      `type='signal',sender='${NAME}',interface='${NAME}',member='Reloaded'`,
    ])
      await bus.call({ ...BUS, member: "AddMatch", signature: "s", body: [rule] });
    const [running] = await bus.call({ ...BUS, member: "NameHasOwner", signature: "s", body: [NAME] });
    this.#running = running === true;
    return bus;
  }

  #signal({ type, member, body }: DbusMessage): void {
    if (type !== MESSAGE.SIGNAL) return;
    if (member === "NameOwnerChanged" && body[0] === NAME) this.#running = body[2] !== "";
    else if (member !== "Reloaded") return;
    if (this.#running) void this.#tellAll();
  }

  async #tellAll(): Promise<void> {
    const names = [...this.#interfaces];
    for (const name of names) await this.#tell("addInterface", name);
    if (names.length > 0) this.#log("info", `firewalld has started or was reloaded: ${names.join(", ")} are in its zone ${ZONE}`);
  }

  async #tell(member: "addInterface" | "removeInterface", name: string): Promise<void> {
    try {
      await (await this.#bus)?.call({ ...ZONES, member, signature: "ss", body: [ZONE, name] });
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      if (error instanceof DbusError && SETTLED.test(text)) return;
      if (!this.#running) return; // it ended meanwhile
      const hint = `firewall-cmd --zone=${ZONE} --add-interface=${name}`;
      this.#log("warn", `firewalld did not take ${name} ${member === "addInterface" ? "into" : "out of"} its zone ${ZONE}: ${text} (${hint} does it by hand)`);
    }
  }
}
