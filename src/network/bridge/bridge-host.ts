/**
 * The host's side of bridge networks: interfaces, the nf_tables table, IP forwarding. Everything is made on first use and made again when it has disappeared.
 * @module
 */
import { randomInt } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { EngineError, errnoOf } from "#core/errors.ts";
import { type Helper, PlanError } from "#linux/helper.ts";
import { impairment } from "#linux/netlink/traffic-control.ts";
import type { Step } from "#linux/plan.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, type NetlinkMessage } from "#linux/netlink/message.ts";
import { bridgePort, deleteLink, linkUp, newAddress, newBridge, setMaster } from "#linux/netlink/rtnetlink.ts";
import { type Address, addressBytes, type Family, formatAddress, formatSubnet, lastOf } from "../ip-address.ts";
import type { BridgeSettings } from "../network-records.ts";
import { netlinkStep } from "./endpoint-steps.ts";
import type { HostWatch } from "./host-watch.ts";
import { freshTransaction, type PublishedPort, publishTransactions, removalTransaction, rulesTransaction, unpublishTransactions } from "./rules.ts";

/** The table is named after the default bridge, so that several daemons on one host stay apart. */
export function tableName(defaultBridge: string): string {
  if (defaultBridge === "wherry0") return "wherry";
  return defaultBridge.startsWith("wherry") ? defaultBridge : `wherry-${defaultBridge}`;
}

const CLONE_NEWNET = 0x40000000;
/** Index of `lo` in every namespace. */
const LOOPBACK = 1;

/** Families whose forwarding was off before this engine came. */
export interface ForwardingMark {
  readonly turnedOn: readonly Family[];
  remember(families: readonly Family[]): Promise<void>;
}

export interface BridgeHostOptions {
  readonly helper: Helper;
  readonly table: string;
  readonly forwarding: ForwardingMark;
  /** Started before there is something to be lost. */
  readonly watch: Pick<HostWatch, "start">;
  readonly log: (message: string) => void;
}

export class BridgeHost {
  readonly table: string;
  readonly #helper: Helper;
  readonly #log: (message: string) => void;
  readonly #watch: Pick<HostWatch, "start">;
  readonly #bridges = new Map<string, BridgeSettings>();
  readonly #forwarding: ForwardingMark;
  #closeForwarding: readonly Family[];
  #queue: Promise<unknown> = Promise.resolve();
  #tableReady = false;
  /** Somebody has removed rules, and they are not there again yet. */
  #rulesLost = false;
  #nextIndex = 0;

  constructor(options: BridgeHostOptions) {
    this.#helper = options.helper;
    this.#watch = options.watch;
    this.table = options.table;
    this.#forwarding = options.forwarding;
    this.#closeForwarding = options.forwarding.turnedOn;
    this.#log = options.log;
  }

  /** An interface index that nothing uses: far above those that the kernel counts up to, from a place of this daemon's own. */
  takeIndex(): number {
    if (this.#nextIndex === 0) this.#nextIndex = 1_000_000 + randomInt(1 << 24) * 64;
    return this.#nextIndex++;
  }

  /** Makes sure that the bridge, whose index was `index` just now, and its rules exist; the bridge's index. */
  async ensure(settings: BridgeSettings, index: number | undefined): Promise<number> {
    if (index !== undefined && this.#tableReady && !this.#rulesLost && this.#bridges.has(settings.interfaceName)) return index;
    return await this.#serial(async () => {
      const found = await indexOf(settings.interfaceName);
      const present = found ?? (await this.#make(settings));
      if (found === undefined || !this.#tableReady || this.#rulesLost || !this.#bridges.has(settings.interfaceName)) {
        await this.#openForwarding(settings.ipv6 === undefined ? [4] : [4, 6]);
        await writeFile(`/proc/sys/net/ipv4/conf/${settings.interfaceName}/route_localnet`, "1");
        this.#bridges.set(settings.interfaceName, settings);
        await this.#watch.start();
        await this.#sendRules();
      }
      return present;
    });
  }

  async perform(steps: readonly Step[]): Promise<void> {
    await this.#helper.call({ steps });
  }

  /** Asks the kernel, in a namespace made for the question: late and lost packets are made by netem. EngineError "unsupported". */
  async requireNetem(): Promise<void> {
    const unshare: Step = { op: "unshare", where: "host", flags: BigInt(CLONE_NEWNET), why: "a network namespace to try it in" };
    const attempt = netlinkStep("host", NETLINK_ROUTE, [impairment(LOOPBACK, { delayUs: 1, loss: 0 }, "root")], "whether the kernel has netem");
    try {
      await this.#helper.call({ steps: [unshare, attempt] });
    } catch (error) {
      if (!(error instanceof PlanError) || error.errno !== "ENOENT") throw error;
      throw new EngineError(
        "unsupported",
        "network latency and loss are not supported: this kernel has no netem (it answered ENOENT to a qdisc of that kind)",
        {
          hint: "it takes CONFIG_NET_SCH_NETEM, or the module sch_netem",
        },
      );
    }
  }

  /** Removes a bridge and its rules; a missing one is no error. */
  async remove(settings: BridgeSettings): Promise<void> {
    await this.#serial(async () => {
      const known = this.#bridges.delete(settings.interfaceName);
      if (known && this.#tableReady) await this.#sendRules();
      await this.removeInterface(settings.interfaceName);
    });
  }

  async removeInterface(name: string): Promise<void> {
    if ((await indexOf(name)) === undefined) return;
    await this.#helper.call({ steps: [netlinkStep("host", NETLINK_ROUTE, [deleteLink(name)], `removes the interface ${name}`, ["ENODEV", "EINVAL"])] });
  }

  /** After a restart: throws away what an earlier daemon left in the table and puts in what holds now. Without bridges there is nothing to do. */
  async restore(bridges: readonly BridgeSettings[], ports: readonly PublishedPort[]): Promise<void> {
    if (bridges.length === 0) return;
    await this.#serial(async () => {
      for (const settings of bridges) {
        if ((await indexOf(settings.interfaceName)) === undefined) await this.#make(settings);
        await writeFile(`/proc/sys/net/ipv4/conf/${settings.interfaceName}/route_localnet`, "1");
        this.#bridges.set(settings.interfaceName, settings);
      }
      await this.#openForwarding(bridges.some(({ ipv6 }) => ipv6 !== undefined) ? [4, 6] : [4]);
      await this.#transactions([freshTransaction(this.#options()), ...publishTransactions(this.table, ports)], "rules and published ports as they were");
      this.#tableReady = true;
    });
    await this.#watch.start();
  }

  /** Makes ports lead to a container whose cable's end here is `port`. */
  async publish(ports: readonly PublishedPort[], port: string | undefined): Promise<void> {
    if (ports.length === 0) return;
    const index = port === undefined ? undefined : await indexOf(port);
    if (index !== undefined)
      await this.perform([netlinkStep("host", NETLINK_ROUTE, [bridgePort(index, { hairpin: true })], "it may call its own published ports")]);
    await this.#transactions(publishTransactions(this.table, ports), "published ports lead to another of its addresses");
  }

  /** Says that somebody has removed rules: who joins a bridge before `reapply` does not rely on them. */
  rulesLost(): void {
    this.#rulesLost = true;
  }

  /** All rules and ports once more, after somebody else has taken some. False when there is nothing to be restored. */
  async reapply(ports: () => readonly PublishedPort[]): Promise<boolean> {
    this.#rulesLost = false;
    if (!this.#tableReady) return false;
    await this.#serial(() =>
      this.#transactions([freshTransaction(this.#options()), ...publishTransactions(this.table, ports())], "rules and published ports as they were"),
    );
    return true;
  }

  /** Makes a bridge that somebody else has removed again, with the cables that were in it. False when it is there, or not one of those that must be. */
  async remake(interfaceName: string, cables: readonly { readonly name: string; readonly hairpin: boolean }[]): Promise<boolean> {
    return await this.#serial(async () => {
      const settings = this.#bridges.get(interfaceName);
      if (settings === undefined || (await indexOf(interfaceName)) !== undefined) return false;
      const master = await this.#make(settings);
      await writeFile(`/proc/sys/net/ipv4/conf/${interfaceName}/route_localnet`, "1");
      for (const { name, hairpin } of cables) {
        const index = await indexOf(name);
        if (index === undefined) continue;
        const port = { ...(hairpin && { hairpin }), ...(!settings.icc && { isolated: true }) };
        const messages = [setMaster(index, master), linkUp(index), ...(Object.keys(port).length > 0 ? [bridgePort(index, port)] : [])];
        await this.perform([netlinkStep("host", NETLINK_ROUTE, messages, `${name} is a port of ${interfaceName} again`, ["ENODEV"])]);
      }
      await this.#sendRules(); // who removed the bridge may have removed them too, and a container may be about to join
      return true;
    });
  }

  /** The kernel waits for an RCU grace period (5–20 ms). */
  async unpublish(ports: readonly PublishedPort[]): Promise<void> {
    if (ports.length === 0) return;
    // All ports of one transaction were added by one: either all are there or, when the container never started or the table was flushed, none.
    await this.#transactions(unpublishTransactions(this.table, ports), "published ports are taken back", ["ENOENT"]);
  }

  /** Removes the table and the interfaces given. */
  async clear(bridges: readonly BridgeSettings[]): Promise<void> {
    await this.#serial(async () => {
      if (this.#tableReady || bridges.length > 0) await this.#transactions([removalTransaction(this.table)], "the last container is gone");
      this.#tableReady = false;
      this.#bridges.clear();
      for (const { interfaceName } of bridges) await this.removeInterface(interfaceName);
    });
  }

  async #make({ interfaceName, ipv4, ipv6, mtu }: BridgeSettings): Promise<number> {
    const index = this.takeIndex();
    const messages = [
      newBridge({ name: interfaceName, index, mtu, mac: macOf(ipv4.gateway) }),
      newAddress({ index, address: addressBytes(ipv4.gateway), prefix: ipv4.subnet.prefix, broadcast: addressBytes(lastOf(ipv4.subnet)) }),
      ...(ipv6 === undefined ? [] : [newAddress({ index, address: addressBytes(ipv6.gateway), prefix: ipv6.subnet.prefix })]),
      linkUp(index),
    ];
    const ranges = [ipv4, ...(ipv6 === undefined ? [] : [ipv6])];
    const why = `the bridge ${interfaceName} with the host's address${ranges.map(({ gateway, subnet }) => ` ${formatAddress(gateway)} in ${formatSubnet(subnet)}`).join(" and")}`;
    await this.#helper.call({ steps: [netlinkStep("host", NETLINK_ROUTE, messages, why)] });
    this.#log(`made the bridge ${interfaceName} for ${ranges.map(({ subnet }) => formatSubnet(subnet)).join(" and ")}`);
    return index;
  }

  #options() {
    return { table: this.table, bridges: [...this.#bridges.values()], closeForwarding: this.#closeForwarding };
  }

  async #sendRules(): Promise<void> {
    await this.#transactions([rulesTransaction(this.#options())], "forwarding, masquerading and published ports");
    this.#tableReady = true;
  }

  async #transactions(transactions: readonly (readonly NetlinkMessage[])[], why: string, ignore: readonly string[] = []): Promise<void> {
    await this.#helper.call({ steps: transactions.map((messages) => netlinkStep("host", NETLINK_NETFILTER, messages, why, ignore)) });
  }

  /** Docker turns forwarding on, too. Who turned it on sees to it that the host does not become a router between its other interfaces. */
  async #openForwarding(families: readonly Family[]): Promise<void> {
    for (const family of families) {
      const setting = family === 4 ? "ipv4.ip_forward" : "ipv6.conf.all.forwarding";
      const path = `/proc/sys/net/${setting.replaceAll(".", "/")}`;
      if ((await readFile(path, "utf8")).trim() === "1") continue;
      if (family === 6) await keepRouterAdvertisements();
      await writeFile(path, "1");
      this.#closeForwarding = [...new Set([...this.#closeForwarding, family])];
      await this.#forwarding.remember(this.#closeForwarding);
      this.#log(`turned IPv${family} forwarding on (net.${setting}); only traffic of bridges is forwarded`);
    }
  }

  /** One change of the host at a time. */
  #serial<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work);
    this.#queue = result.catch(() => undefined); // the caller has the error
    return result;
  }
}

/** A host that forwards does not listen to routers any more, unless it is told to (2). Those that it got its own addresses and routes from must not fall silent. */
async function keepRouterAdvertisements(): Promise<void> {
  for (const name of await readdir("/proc/sys/net/ipv6/conf")) {
    const path = `/proc/sys/net/ipv6/conf/${name}/accept_ra`;
    if (name !== "all" && name !== "default" && (await readFile(path, "utf8")).trim() === "1") await writeFile(path, "2");
  }
}

/** 02:42 and the IPv4 address, as Docker derives it. */
export function macOf(address: Address): Uint8Array {
  return Uint8Array.of(0x02, 0x42, ...addressBytes(address));
}

/** Index of an interface; undefined when there is none of that name. */
export async function indexOf(name: string): Promise<number | undefined> {
  try {
    return Number(await readFile(`/sys/class/net/${name}/ifindex`, "utf8"));
  } catch (error) {
    // ENODEV, EINVAL: it went away between open and read
    if (["ENOENT", "ENODEV", "EINVAL"].includes(errnoOf(error) ?? "")) return undefined;
    throw error;
  }
}

/** Interfaces that are ports of a bridge. */
export async function portsOf(bridge: string): Promise<string[]> {
  try {
    return await readdir(`/sys/class/net/${bridge}/brif`);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}
