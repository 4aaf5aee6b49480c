/**
 * Notices when somebody else takes away what bridge networks need of the host: rules of our table (a flush, a reload of the firewall), a bridge.
 * @module
 */
import { systemClock } from "#core/clock.ts";
import { type Helper, PlanError } from "#linux/helper.ts";
import { textOf } from "#linux/netlink/attributes.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE } from "#linux/netlink/message.ts";
import { NFPROTO_INET, NFPROTO_NETDEV, NFT_MSG, type NftNotice, nftNotices } from "#linux/netlink/nftables.ts";
import { deletedLinks } from "#linux/netlink/rtnetlink.ts";
import { FILTER_FAMILIES, FILTER_TABLE } from "./beside-docker.ts";
import { USER_CHAIN } from "./rules.ts";

/** Bits of NFNLGRP_NFTABLES (7) and RTNLGRP_LINK (1). */
const NFT_GROUP = 1 << 6;
const LINK_GROUP = 1;
/** A worker that ended is started again after this time. */
const AGAIN_MS = 500;
const GENERATION_PROCESS = 3;
const OBJECT = { table: 1, ruleChain: 2, chainName: 3 } as const;
const removals: ReadonlySet<number> = new Set([NFT_MSG.DELTABLE, NFT_MSG.DELCHAIN, NFT_MSG.DELRULE, NFT_MSG.DELSET, NFT_MSG.DELSETELEM]);

export interface HostWatchOptions {
  readonly helper: Helper;
  readonly table: string;
  /** `known`: false when nobody could see what happened meanwhile. */
  readonly onRulesLost: (known: boolean) => void;
  /** Another program has changed the rules of the table `filter`. */
  readonly onOthersChanged: () => void;
  readonly onLinksLost: (names: readonly string[]) => void;
  readonly log: (message: string) => void;
}

export class HostWatch {
  readonly #options: HostWatchOptions;
  readonly #rules: RuleNotices;
  #closed = false;
  #running = false;

  constructor(options: HostWatchOptions) {
    this.#options = options;
    this.#rules = new RuleNotices(options.table);
  }

  /** Resolves when it listens: what is lost from then on is noticed. */
  async start(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    await new Promise<void>((listening) => {
      void this.#run(listening);
    });
  }

  /** The worker itself ends with the helper. */
  close(): void {
    this.#closed = true;
  }

  async #run(listening: () => void): Promise<void> {
    const { helper, onRulesLost, onOthersChanged, onLinksLost, log } = this.#options;
    const sockets = [NETLINK_NETFILTER, NFT_GROUP, NETLINK_NETFILTER, NETLINK_ROUTE, LINK_GROUP, NETLINK_ROUTE];
    for (let first = true; !this.#closed; first = false) {
      let ready = 0;
      try {
        await helper.watch(
          { steps: [{ op: "netlink_watch", where: "host", sockets, setup: new Uint8Array(0), why: "whether somebody else changes what the networks need" }] },
          (protocol, data) => {
            if (this.#closed) return;
            if (data?.length === 0) {
              if (++ready < sockets.length / 3) return;
              listening();
              // while nobody listened, anything may have happened
              if (!first) onRulesLost(false);
            } else if (protocol === NETLINK_NETFILTER) {
              if (data === undefined) onRulesLost(false);
              else if (this.#rules.lost(data)) onRulesLost(true);
              if (this.#rules.othersChanged()) onOthersChanged();
            } else if (data !== undefined) onLinksLost(deletedLinks(data));
          },
        );
      } catch (error) {
        listening();
        if (this.#closed) return;
        if (error instanceof PlanError) log(`changes of the host's firewall by others go unnoticed: ${error.message}`);
        await systemClock.sleep(AGAIN_MS);
      }
    }
  }
}

/** Tells other programs' removals from our own transactions: the notice at a transaction's end names the process. */
export class RuleNotices {
  readonly #table: string;
  #removed = false;
  #filterTouched = false;
  #othersChanged = false;

  constructor(table: string) {
    this.#table = table;
  }

  /** Whether a transaction that somebody else has made took something of our table. */
  lost(datagram: Uint8Array): boolean {
    let lost = false;
    for (const notice of nftNotices(datagram)) {
      if (notice.type === NFT_MSG.NEWGEN) {
        const process = textOf(notice.attributes.get(GENERATION_PROCESS) ?? new Uint8Array(0));
        const byOthers = !process.startsWith("wherry-");
        if (this.#removed && byOthers) lost = true;
        if (this.#filterTouched && byOthers) this.#othersChanged = true;
        this.#removed = false;
        this.#filterTouched = false;
      } else if (this.#isOurs(notice)) this.#removed = true;
      else if (isFilter(notice)) this.#filterTouched = true;
    }
    return lost;
  }

  /** Whether anybody else has changed the table `filter` since this was asked last. */
  othersChanged(): boolean {
    const changed = this.#othersChanged;
    this.#othersChanged = false;
    return changed;
  }

  #isOurs({ type, family, attributes }: NftNotice): boolean {
    const text = (attribute: number) => textOf(attributes.get(attribute) ?? new Uint8Array(0));
    if (!removals.has(type) || text(OBJECT.table) !== this.#table) return false;
    // a chain of the family netdev goes with its device
    if (family === NFPROTO_NETDEV) return type === NFT_MSG.DELTABLE || type === NFT_MSG.DELRULE;
    if (family !== NFPROTO_INET) return false;
    if (type === NFT_MSG.DELRULE) return text(OBJECT.ruleChain) !== USER_CHAIN;
    return type !== NFT_MSG.DELCHAIN || text(OBJECT.chainName) !== USER_CHAIN;
  }
}

const isFilter = ({ family, attributes }: NftNotice): boolean =>
  FILTER_FAMILIES.some((each) => each === family) && textOf(attributes.get(OBJECT.table) ?? new Uint8Array(0)) === FILTER_TABLE;
