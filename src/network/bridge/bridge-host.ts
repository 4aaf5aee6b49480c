/**
 * The host's side of bridge networks: interfaces, the nf_tables table, IP forwarding. Everything is made on first use and made again when it has disappeared.
 * @module
 */
import { randomInt } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { systemClock } from "#core/clock.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import { type Helper, PlanError } from "#linux/helper.ts";
import { impairment } from "#linux/netlink/traffic-control.ts";
import type { Step } from "#linux/plan.ts";
import { encodeMessages, NETLINK_NETFILTER, NETLINK_ROUTE, type NetlinkMessage } from "#linux/netlink/message.ts";
import { dumpedElements, dumpElements, newTable, nftBatch } from "#linux/netlink/nftables.ts";
import { bridgePort, deleteLink, linkUp, newAddress, newBridge, setMaster } from "#linux/netlink/rtnetlink.ts";
import { type Address, addressBytes, type Family, formatAddress, formatSubnet, lastOf } from "../ip-address.ts";
import type { BridgeSettings } from "../network-records.ts";
import { askForChains, askForRules, FILTER_FAMILIES, hasDocker, letThrough } from "./beside-docker.ts";
import { netlinkStep } from "./endpoint-steps.ts";
import { indexOf } from "./interface-index.ts";
import type { HostWatch } from "./host-watch.ts";
import {
  type Confined,
  confineMessages,
  egressMessages,
  forgetMessages,
  guardsRemoval,
  type Learned,
  learnedOf,
  learnMessages,
  type Reconfined,
  reconfineTransaction,
  releaseTransaction,
  SETS,
  unguardTransaction,
} from "../egress/egress-table.ts";
import type { Refusals } from "../egress/refusals.ts";
import {
  freshTransactions,
  type PublishedPort,
  publishTransactions,
  removalTransaction,
  rulesTransaction,
  type TableContent,
  unpublishTransactions,
} from "./rules.ts";

/** The table is named after the default bridge, so that several daemons on one host stay apart. */
export function tableName(defaultBridge: string): string {
  if (defaultBridge === "wherry0") return "wherry";
  return defaultBridge.startsWith("wherry") ? defaultBridge : `wherry-${defaultBridge}`;
}

/** Answers of a kernel without the subsystem, or without one of its families. */
const NO_NFTABLES: ReadonlySet<string> = new Set(["EPROTONOSUPPORT", "EOPNOTSUPP", "EAFNOSUPPORT"]);

const MAX_ATTEMPTS = 5;
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
  /** Started before a call is refused. */
  readonly refusals: Pick<Refusals, "start">;
  readonly log: (message: string) => void;
}

export class BridgeHost {
  readonly table: string;
  readonly #helper: Helper;
  readonly #log: (message: string) => void;
  readonly #watch: Pick<HostWatch, "start">;
  readonly #refusals: Pick<Refusals, "start">;
  /** Since the first endpoint that is confined. */
  #egress: { readonly group: number | undefined } | undefined;
  #canEgress = false;
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
    this.#refusals = options.refusals;
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

  /** Asks the kernel, in a namespace made for the question, whether it can do what egress rules need. EngineError "unsupported". */
  async requireEgress(): Promise<void> {
    if (this.#canEgress) return;
    const unshare: Step = { op: "unshare", where: "host", flags: BigInt(CLONE_NEWNET), why: "a network namespace to try it in" };
    const sample: Confined = { containerId: "", cable: "lo", addresses: [{ family: 4, value: 1n }], boxes: { 4: [], 6: [] } };
    const messages = [newTable("probe"), ...egressMessages("probe", 1, undefined), ...confineMessages("probe", [sample])];
    try {
      await this.#helper.call({ steps: [unshare, netlinkStep("host", NETLINK_NETFILTER, nftBatch(messages), "whether the kernel has all of it")] });
      this.#canEgress = true;
    } catch (error) {
      if (!(error instanceof PlanError)) throw error;
      throw new EngineError("unsupported", `egress rules are not supported: nf_tables of this kernel answered ${error.errno}`, {
        cause: error,
        hint: "they take Linux 5.9 with nf_tables for the families inet and netdev, its reject and conntrack expressions",
      });
    }
  }

  /** Makes sure that the chain by which endpoints are confined is there. */
  async prepareEgress(): Promise<void> {
    if (this.#egress !== undefined && this.#tableReady && !this.#rulesLost) return;
    const group = await this.#refusals.start();
    await this.#serial(async () => {
      this.#egress = { group };
      await this.#sendRules();
    });
  }

  /** What answers have opened; with it the reply may be sent. */
  async learn(learned: readonly Learned[], now: number): Promise<void> {
    await this.#transactions([nftBatch(learnMessages(this.table, learned, now))], "addresses that an answer has opened");
  }

  /** An element may have ended by itself: that is no error. */
  async forget(learned: readonly Learned[]): Promise<void> {
    await this.#transactions([nftBatch(forgetMessages(this.table, learned))], "addresses that are nobody's any more");
  }

  /** Endpoints of a running container are confined to other rules. */
  async reconfine(changes: readonly Reconfined[], closed: readonly Learned[]): Promise<void> {
    await this.prepareEgress();
    await this.#transactions([reconfineTransaction(this.table, changes, closed)], "other rules for whom a container may call");
  }

  /** Takes away what an endpoint was confined to, and what its answers have opened. */
  async release(confined: Confined, learned: readonly Learned[]): Promise<void> {
    const forget = learned.length === 0 ? [] : [nftBatch(forgetMessages(this.table, learned))];
    await this.#transactions([...forget, releaseTransaction(this.table, confined), unguardTransaction(this.table, confined)], "egress rules are taken back", [
      "ENOENT",
    ]);
  }

  /** What answers have opened, as the kernel has it. */
  async #learned(now: number): Promise<Learned[]> {
    const asked = ([4, 6] as const).flatMap((family) => (["learned", "learnedAny"] as const).map((set) => ({ family, set })));
    const steps = asked.map(
      ({ family, set }, tag): Step => ({
        op: "netlink_dump",
        where: "host",
        protocol: NETLINK_NETFILTER,
        message: encodeMessages([dumpElements(this.table, SETS[family][set].name)]),
        tag,
        why: "addresses that answers have opened",
        ignore: ["ENOENT"],
      }),
    );
    const reports = await this.#helper.call({ steps });
    return asked.flatMap(({ family, set }, tag) =>
      dumpedElements(reports.get(tag) ?? new Uint8Array(0)).flatMap(({ key, expiresInMs = 0 }) => learnedOf(family, set, key, now + expiresInMs) ?? []),
    );
  }

  /** The table `filter` of others has changed: where Docker's chains are, they let our bridges through again. */
  async besideOthers(): Promise<void> {
    if (this.#tableReady) await this.#serial(() => this.#letThrough());
  }

  async #letThrough(): Promise<void> {
    const dump = (messages: readonly NetlinkMessage[], why: string) =>
      this.#helper.call({
        steps: messages.map(
          (message, tag): Step => ({ op: "netlink_dump", where: "host", protocol: NETLINK_NETFILTER, message: encodeMessages([message]), tag, why }),
        ),
      });
    for (let attempt = 1; ; attempt++) {
      try {
        const chains = await dump(FILTER_FAMILIES.map(askForChains), "whether Docker's chains are there");
        const families = FILTER_FAMILIES.filter((_, tag) => hasDocker(chains.get(tag) ?? new Uint8Array(0)));
        if (families.length === 0) return;
        const rules = await dump(families.map(askForRules), "whether they let our bridges through");
        const changes = families.flatMap((family, tag) => {
          const change = letThrough(family, this.table, [...this.#bridges.keys()], rules.get(tag) ?? new Uint8Array(0));
          return change === undefined ? [] : [change];
        });
        if (changes.length > 0) await this.#transactions(changes, "Docker's policy for FORWARD does not stop our bridges");
        return;
      } catch (error) {
        // somebody has changed it in between: EINTR while it was read, ENOENT for a rule that is gone
        if (!(error instanceof PlanError) || attempt === MAX_ATTEMPTS || !["EINTR", "ENOENT"].includes(error.errno)) throw error;
      }
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
  async restore(
    bridges: readonly BridgeSettings[],
    { ports, confined }: Pick<TableContent, "ports" | "confined">,
    isStillOpen: (learned: Learned) => boolean,
  ): Promise<Learned[]> {
    if (bridges.length === 0) return [];
    if (confined.length > 0) this.#egress = { group: await this.#refusals.start() };
    const learned = await this.#serial(async () => {
      for (const settings of bridges) {
        if ((await indexOf(settings.interfaceName)) === undefined) await this.#make(settings);
        await writeFile(`/proc/sys/net/ipv4/conf/${settings.interfaceName}/route_localnet`, "1");
        this.#bridges.set(settings.interfaceName, settings);
      }
      await this.#openForwarding(bridges.some(({ ipv6 }) => ipv6 !== undefined) ? [4, 6] : [4]);
      const now = systemClock.now();
      const found = await this.#learned(now);
      const [open, closed] = [found.filter(isStillOpen), found.filter((each) => !isStillOpen(each))];
      await this.#refresh({ ports, confined, learned: [] });
      if (confined.length > 0 && closed.length > 0) await this.#transactions([nftBatch(forgetMessages(this.table, closed))], "what is of no use any more");
      this.#tableReady = true;
      return open;
    });
    await this.#watch.start();
    return learned;
  }

  async #refresh(content: TableContent): Promise<void> {
    if (this.#egress === undefined) await this.#removeGuards();
    await this.#transactions(freshTransactions(this.#options(), content, systemClock.now()), "rules and all that containers have taken");
    await this.#letThrough();
  }

  /** A kernel without the family has none. */
  async #removeGuards(): Promise<void> {
    await this.#transactions([guardsRemoval(this.table)], "no endpoint is confined", ["EOPNOTSUPP", "ENOENT", "EAFNOSUPPORT"]);
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
  async reapply(content: () => TableContent): Promise<boolean> {
    this.#rulesLost = false;
    if (!this.#tableReady) return false;
    await this.#serial(() => this.#refresh(content()));
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
      const had = this.#tableReady || bridges.length > 0;
      if (had) await this.#transactions([removalTransaction(this.table)], "the last container is gone");
      if (this.#egress !== undefined) await this.#removeGuards();
      this.#egress = undefined;
      this.#tableReady = false;
      this.#bridges.clear();
      if (had) await this.#letThrough();
      for (const { interfaceName } of bridges) await this.removeInterface(interfaceName);
    });
  }

  async #make({ interfaceName, ipv4, ipv6, mtu }: BridgeSettings): Promise<number> {
    const index = this.takeIndex();
    const messages = [
      newBridge({ name: interfaceName, index, mtu, mac: macOf(ipv4.gateway) }),
      ...(ipv4.onHost
        ? [newAddress({ index, address: addressBytes(ipv4.gateway), prefix: ipv4.subnet.prefix, broadcast: addressBytes(lastOf(ipv4.subnet)) })]
        : []),
      ...(ipv6?.onHost ? [newAddress({ index, address: addressBytes(ipv6.gateway), prefix: ipv6.subnet.prefix })] : []),
      linkUp(index),
    ];
    const ranges = [ipv4, ...(ipv6 === undefined ? [] : [ipv6])];
    const why = `the bridge ${interfaceName} with the host's address${ranges.map(({ gateway, subnet, onHost }) => ` ${onHost ? formatAddress(gateway) : "(none)"} in ${formatSubnet(subnet)}`).join(" and")}`;
    await this.#helper.call({ steps: [netlinkStep("host", NETLINK_ROUTE, messages, why)] });
    this.#log(`made the bridge ${interfaceName} for ${ranges.map(({ subnet }) => formatSubnet(subnet)).join(" and ")}`);
    return index;
  }

  #options() {
    const egress = this.#egress;
    return { table: this.table, bridges: [...this.#bridges.values()], closeForwarding: this.#closeForwarding, ...(egress && { egress }) };
  }

  async #sendRules(): Promise<void> {
    await this.#transactions([rulesTransaction(this.#options())], "forwarding, masquerading and published ports");
    this.#tableReady = true;
    await this.#letThrough();
  }

  async #transactions(transactions: readonly (readonly NetlinkMessage[])[], why: string, ignore: readonly string[] = []): Promise<void> {
    try {
      await this.#helper.call({ steps: transactions.map((messages) => netlinkStep("host", NETLINK_NETFILTER, messages, why, ignore)) });
    } catch (error) {
      if (!(error instanceof PlanError) || !NO_NFTABLES.has(error.errno)) throw error;
      throw new EngineError("unsupported", `bridge networks need nf_tables, which this kernel does not have (it answered ${error.errno})`, {
        cause: error,
        hint: "it takes CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET, or the module nf_tables; iptables alone is not enough. The networks host and none work without",
      });
    }
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

/** Interfaces that are ports of a bridge. */
export async function portsOf(bridge: string): Promise<string[]> {
  try {
    return await readdir(`/sys/class/net/${bridge}/brif`);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}
