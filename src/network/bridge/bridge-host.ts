/**
 * The host's side of bridge networks: interfaces, the nf_tables table, IP forwarding. Everything is made on first use and made again when it has disappeared.
 * @module
 */
import { createHash, randomInt } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { systemClock } from "#core/clock.ts";
import { textIfThere } from "#linux/text-if-there.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import { type Helper, PlanError } from "#linux/helper.ts";
import { impairment } from "#linux/netlink/traffic-control.ts";
import type { Step } from "#linux/plan.ts";
import { encodeMessages, NETLINK_NETFILTER, NETLINK_ROUTE, type NetlinkMessage } from "#linux/netlink/message.ts";
import { dumpedElements, dumpElements, newTable, nftBatch } from "#linux/netlink/nftables.ts";
import {
  bridgePort,
  bridgeUp,
  deleteAddress,
  deleteGroup,
  deleteLink,
  dumpBridges,
  dumpedLinks,
  linkUp,
  newAddress,
  newBridge,
  setGroup,
  setMaster,
} from "#linux/netlink/rtnetlink.ts";
import { type Address, addressBytes, type Family, formatAddress, formatSubnet, lastOf } from "../ip-address.ts";
import type { BridgeSettings } from "../network-records.ts";
import { askForChains, askForRules, FILTER_FAMILIES, hasDocker, letThrough } from "./beside-docker.ts";
import { netlinkStep } from "./endpoint-steps.ts";
import type { Firewalld } from "./firewalld.ts";
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
  additionTransaction,
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

/** Bridges whose networks have been removed are deleted together, so long after the first of them. */
const TAKE_DOWN_AFTER_MS = 100;
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
  /** Told of bridges. */
  readonly firewalld: Pick<Firewalld, "add" | "remove">;
  readonly log: (message: string) => void;
}

export class BridgeHost {
  readonly table: string;
  readonly #helper: Helper;
  readonly #log: (message: string) => void;
  readonly #watch: Pick<HostWatch, "start">;
  readonly #refusals: Pick<Refusals, "start">;
  readonly #firewalld: Pick<Firewalld, "add" | "remove">;
  /** Since the first endpoint that is confined. */
  #egress: { readonly group: number | undefined } | undefined;
  #canEgress = false;
  readonly #bridges = new Map<string, BridgeSettings>();
  readonly #forwarding: ForwardingMark;
  #closeForwarding: readonly Family[];
  #queue: Promise<unknown> = Promise.resolve();
  #tableReady = false;
  /** The rules that the table has are those of `#bridges`. */
  #rulesFit = true;
  /** Indexes of bridges whose networks were removed: without addresses, and soon gone. */
  readonly #removed = new Map<string, number>();
  #takingDown: NodeJS.Timeout | undefined;
  /** The group that such interfaces are in: they are deleted at once. */
  readonly #group: number;
  /** Nobody has changed the table `filter` since it was found without Docker's chains. */
  #withoutDocker = false;
  /** Somebody has removed rules, and they are not there again yet. */
  #rulesLost = false;
  #nextIndex = 0;

  constructor(options: BridgeHostOptions) {
    this.#helper = options.helper;
    this.#watch = options.watch;
    this.#refusals = options.refusals;
    this.#firewalld = options.firewalld;
    this.table = options.table;
    this.#group = createHash("sha256").update(options.table).digest().readUInt32BE() >>> 1;
    this.#forwarding = options.forwarding;
    this.#closeForwarding = options.forwarding.turnedOn;
    this.#log = options.log;
  }

  /** What the aliases of bridges begin with that this engine has made. */
  get #mark(): string {
    return `${this.table}: `;
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
      if (this.#removed.has(settings.interfaceName)) await this.#takeDown();
      const found = await indexOf(settings.interfaceName);
      const known = this.#bridges.has(settings.interfaceName);
      if (found !== undefined && known && this.#tableReady && !this.#rulesLost) return found;
      if (await this.#openForwarding(settings.ipv6 === undefined ? [4] : [4, 6])) this.#rulesFit = false;
      await this.#watch.start();
      const onlyMore = !known && this.#tableReady && this.#rulesFit && !this.#rulesLost;
      this.#bridges.set(settings.interfaceName, settings);
      try {
        const index = onlyMore ? await this.#add(settings, found) : await this.#makeWithRules(settings, found);
        await this.#firewalld.add(settings.interfaceName);
        return index;
      } catch (error) {
        if (!known) this.#bridges.delete(settings.interfaceName);
        this.#rulesFit = false;
        throw error;
      }
    });
  }

  async #makeWithRules(settings: BridgeSettings, found: number | undefined): Promise<number> {
    const { index, step } = this.#makeStep(settings, found);
    await this.#helper.call({ steps: [step] });
    this.#logMade(settings, found);
    await this.#sendRules();
    return index;
  }

  /** The bridge and its rules, beside those that are there: nothing is taken away, so the kernel does not wait. */
  async #add(settings: BridgeSettings, found: number | undefined): Promise<number> {
    const { index, step } = this.#makeStep(settings, found);
    const rules = netlinkStep("host", NETLINK_NETFILTER, additionTransaction(this.table, settings), "forwarding and masquerading");
    try {
      await this.#helper.call({ steps: [step, rules] });
      await this.#letThrough();
    } catch (error) {
      // somebody has just removed the table
      if (!(error instanceof PlanError) || error.plan.steps[error.step] !== rules || error.errno !== "ENOENT") throw error;
      await this.#sendRules();
    }
    this.#logMade(settings, found);
    return index;
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
    if (!this.#tableReady) return;
    await this.#serial(async () => {
      this.#withoutDocker = false;
      await this.#letThrough();
    });
  }

  async #letThrough(): Promise<void> {
    if (this.#withoutDocker) return;
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
        this.#withoutDocker = families.length === 0;
        if (this.#withoutDocker) return;
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

  /**
   * Takes its addresses, and so its routes, off a bridge; a missing one, and one that others have made, is left as it is. It is deleted, and its rules are, a moment
   * later together with others that are removed meanwhile: the kernel needs some 40 ms for it, however many they are. Until then its alias says whose it was.
   */
  async remove({ interfaceName, ipv4, ipv6 }: BridgeSettings): Promise<void> {
    await this.#serial(async () => {
      const index = await this.#oursAt(interfaceName);
      const addresses = [ipv4, ipv6].filter((range) => range?.onHost === true).filter((range) => range !== undefined);
      if (index !== undefined) {
        const off = addresses.map(({ gateway, subnet: { prefix } }) => deleteAddress({ index, address: addressBytes(gateway), prefix }));
        const why = `${interfaceName} has no address any more`;
        await this.perform(off.map((message) => netlinkStep("host", NETLINK_ROUTE, [message], why, ["EADDRNOTAVAIL", "ENODEV"])));
        this.#removed.set(interfaceName, index);
      }
      this.#bridges.delete(interfaceName);
      this.#rulesFit = false;
      await this.#firewalld.remove(interfaceName);
      this.#takingDown ??= setTimeout(() => {
        this.settled().catch((error: unknown) => this.#log(`cannot remove what was left of networks: ${String(error)}`));
      }, TAKE_DOWN_AFTER_MS).unref();
    });
  }

  /** Index of a bridge that this engine has made. */
  async #oursAt(name: string): Promise<number | undefined> {
    const alias = await textIfThere(`/sys/class/net/${name}/ifalias`);
    return alias.startsWith(this.#mark) ? await indexOf(name) : undefined;
  }

  /** Resolves when nothing is left of networks that were removed. */
  async settled(): Promise<void> {
    await this.#serial(() => this.#takeDown());
  }

  async #takeDown(): Promise<void> {
    clearTimeout(this.#takingDown);
    this.#takingDown = undefined;
    if (this.#tableReady && !this.#rulesFit) await this.#sendRules();
    if (this.#removed.size === 0) return;
    await this.#deleteLinks([...this.#removed.values()], [...this.#removed.keys()].join(", "));
    this.#removed.clear();
  }

  /** All at once: by a group of interfaces that nobody else uses. */
  async #deleteLinks(indexes: readonly number[], what: string): Promise<void> {
    if (indexes.length === 0) return;
    await this.perform([
      ...indexes.map((index) => netlinkStep("host", NETLINK_ROUTE, [setGroup(index, this.#group)], `one of those that go: ${what}`, ["ENODEV"])),
      netlinkStep("host", NETLINK_ROUTE, [deleteGroup(this.#group)], `removes ${what}`, ["ENODEV"]),
    ]);
  }

  /** Removes bridges of ours that no network has: an engine was killed while it made or removed them. */
  async sweep(known: ReadonlySet<string>): Promise<void> {
    await this.#serial(async () => {
      const message = encodeMessages([dumpBridges()]);
      const ask: Step = { op: "netlink_dump", where: "host", protocol: NETLINK_ROUTE, message, tag: 0, why: "bridges that are there" };
      const links = dumpedLinks((await this.#helper.call({ steps: [ask] })).get(0) ?? new Uint8Array(0));
      const left = links.filter(({ name, alias }) => alias.startsWith(this.#mark) && !known.has(name));
      if (left.length === 0) return;
      const what = `${left.map(({ name }) => name).join(", ")} of networks that are gone`;
      await this.#deleteLinks(
        left.map(({ index }) => index),
        what,
      );
      this.#log(`removed ${what}`);
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
        await this.#make(settings, await indexOf(settings.interfaceName));
        this.#bridges.set(settings.interfaceName, settings);
        await this.#firewalld.add(settings.interfaceName);
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
    this.#rulesFit = true;
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
    await this.#serial(async () => {
      this.#withoutDocker = false; // its chains may have come unseen
      await this.#refresh(content());
    });
    return true;
  }

  /** Makes a bridge that somebody else has removed again, with the cables that were in it. False when it is there, or not one of those that must be. */
  async remake(interfaceName: string, cables: readonly { readonly name: string; readonly hairpin: boolean }[]): Promise<boolean> {
    return await this.#serial(async () => {
      const settings = this.#bridges.get(interfaceName);
      if (settings === undefined || (await indexOf(interfaceName)) !== undefined) return false;
      const master = await this.#make(settings, undefined);
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

  async unpublish(ports: readonly PublishedPort[]): Promise<void> {
    if (ports.length === 0) return;
    // All ports of one transaction were added by one: either all are there or, when the container never started or the table was flushed, none.
    await this.#transactions(unpublishTransactions(this.table, ports), "published ports are taken back", ["ENOENT"]);
  }

  /** Removes the table and the interfaces given. */
  async clear(bridges: readonly BridgeSettings[]): Promise<void> {
    await this.#serial(async () => {
      await this.#takeDown();
      const had = this.#tableReady || bridges.length > 0;
      if (had) await this.#transactions([removalTransaction(this.table)], "the last container is gone");
      if (this.#egress !== undefined) await this.#removeGuards();
      this.#egress = undefined;
      this.#tableReady = false;
      for (const name of this.#bridges.keys()) await this.#firewalld.remove(name);
      this.#bridges.clear();
      this.#withoutDocker = false;
      if (had) await this.#letThrough();
      const ours = await Promise.all(bridges.map(({ interfaceName }) => this.#oursAt(interfaceName)));
      await this.#deleteLinks(
        ours.filter((index) => index !== undefined),
        "bridges that no container is on",
      );
    });
  }

  async #make(settings: BridgeSettings, found: number | undefined): Promise<number> {
    const { index, step } = this.#makeStep(settings, found);
    await this.#helper.call({ steps: [step] });
    this.#logMade(settings, found);
    return index;
  }

  #logMade({ interfaceName, ipv4, ipv6 }: BridgeSettings, found: number | undefined): void {
    if (found !== undefined) return;
    const ranges = [ipv4, ipv6].filter((range) => range !== undefined);
    this.#log(`made the bridge ${interfaceName} for ${ranges.map(({ subnet }) => formatSubnet(subnet)).join(" and ")}`);
  }

  /** Makes a bridge; one that is there (index `found`) is set up. */
  #makeStep({ interfaceName, networkName, ipv4, ipv6, mtu }: BridgeSettings, found: number | undefined): { readonly index: number; readonly step: Step } {
    const index = found ?? this.takeIndex();
    if (found !== undefined) return { index, step: netlinkStep("host", NETLINK_ROUTE, [bridgeUp(index, undefined)], `the bridge ${interfaceName} is up`) };
    const messages = [
      newBridge({ name: interfaceName, index, mtu, mac: macOf(ipv4.gateway) }),
      ...(ipv4.onHost
        ? [newAddress({ index, address: addressBytes(ipv4.gateway), prefix: ipv4.subnet.prefix, broadcast: addressBytes(lastOf(ipv4.subnet)) })]
        : []),
      ...(ipv6?.onHost ? [newAddress({ index, address: addressBytes(ipv6.gateway), prefix: ipv6.subnet.prefix })] : []),
      bridgeUp(index, `${this.#mark}network ${networkName}`),
    ];
    const ranges = [ipv4, ipv6].filter((range) => range !== undefined);
    const why = `the bridge ${interfaceName} with the host's address${ranges.map(({ gateway, subnet, onHost }) => ` ${onHost ? formatAddress(gateway) : "(none)"} in ${formatSubnet(subnet)}`).join(" and")}`;
    return { index, step: netlinkStep("host", NETLINK_ROUTE, messages, why) };
  }

  #options() {
    const egress = this.#egress;
    return { table: this.table, bridges: [...this.#bridges.values()], closeForwarding: this.#closeForwarding, ...(egress && { egress }) };
  }

  async #sendRules(): Promise<void> {
    await this.#transactions([rulesTransaction(this.#options())], "forwarding, masquerading and published ports");
    this.#tableReady = true;
    this.#rulesFit = true;
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

  /** Docker turns forwarding on, too. Who turned it on sees to it that the host does not become a router between its other interfaces. False: it was on. */
  async #openForwarding(families: readonly Family[]): Promise<boolean> {
    let opened = false;
    for (const family of families) {
      const setting = family === 4 ? "ipv4.ip_forward" : "ipv6.conf.all.forwarding";
      const path = `/proc/sys/net/${setting.replaceAll(".", "/")}`;
      if ((await readFile(path, "utf8")).trim() === "1") continue;
      if (family === 6) await keepRouterAdvertisements();
      await writeFile(path, "1");
      opened = true;
      this.#closeForwarding = [...new Set([...this.#closeForwarding, family])];
      await this.#forwarding.remember(this.#closeForwarding);
      this.#log(`turned IPv${family} forwarding on (net.${setting}); only traffic of bridges is forwarded`);
    }
    return opened;
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
