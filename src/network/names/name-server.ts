/**
 * The name server of containers on networks of the user, 127.0.0.11 inside: names of their networks are answered here, everything else by the host's resolvers or
 * by those that the container was given. A container that has no way out gets none by way of us.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import { type AnswerRecord, encodeAnswer, encodeQuestion, encodeRefusal, parseQuery, type Query, RCODE, rcodeOf, recordsOf, TYPE } from "./dns-message.ts";
import { type Attempt, forward, settles } from "./forwarder.ts";
import type { EgressState } from "../egress/egress-state.ts";
import { addressOfReverse, type Found, type NameTable } from "./name-table.ts";

/** Questions of one container that wait for a resolver at a time; of all of them. */
const MAX_WAITING = 100;
const MAX_WAITING_ALL = 1_000;

export interface NameClient {
  readonly containerId: string;
  /** `--dns`: instead of the host's resolvers. */
  readonly servers: readonly string[] | null;
}

export interface NameServerOptions {
  readonly table: () => NameTable;
  /** The host's resolvers as they are now. */
  readonly resolvers: () => Promise<readonly string[]>;
  /** False for a container that is on internal networks only. */
  readonly mayAsk: (containerId: string) => boolean;
  /** Names that egress rules let a container ask others for, and what answers open for it. */
  readonly egress?: Pick<EgressState, "allows" | "mayAsk" | "answered">;
}

/** What became of a name, for people. */
export interface NameTrace {
  /** Networks whose containers have the name. */
  readonly found: readonly { readonly network: string; readonly container: string; readonly addresses: readonly string[] }[];
  /** It may ask nobody: it is on internal networks only. */
  readonly internal: boolean;
  /** Its egress rules do not let it ask for this name. */
  readonly refused: boolean;
  readonly asked: readonly { readonly server: string; readonly result: string; readonly answered: boolean; readonly ms: number }[];
}

export class NameServer {
  readonly #options: NameServerOptions;
  readonly #waiting = new Map<string, number>();
  #waitingAll = 0;

  constructor(options: NameServerOptions) {
    this.#options = options;
  }

  /** Answers one message; undefined: silence. Never rejects. */
  async answer(client: NameClient, message: Buffer, transport: "udp" | "tcp"): Promise<Buffer | undefined> {
    const query = parseQuery(message);
    if (query === undefined) return undefined;
    if (typeof query === "number") return encodeRefusal(message, query);
    try {
      return this.#own(client, query, transport) ?? (await this.#forward(client, message, query, transport));
    } catch {
      return encodeRefusal(message, RCODE.SERVFAIL); // a name that cannot be written back
    }
  }

  /** Answered without asking anybody. */
  #own({ containerId }: NameClient, query: Query, transport: "udp" | "tcp"): Buffer | undefined {
    if (!query.internet) return encodeAnswer(query, transport, RCODE.REFUSED);
    const table = this.#options.table();
    if (query.type === TYPE.PTR) {
      const address = addressOfReverse(query.name);
      const name = address === undefined ? undefined : table.nameOf(containerId, address);
      return name === undefined ? undefined : encodeAnswer(query, transport, RCODE.NOERROR, [{ type: "PTR", data: name }]);
    }
    const found = table.find(containerId, query.name);
    return found === undefined ? undefined : encodeAnswer(query, transport, RCODE.NOERROR, recordsFor(found, query.type));
  }

  async #forward(client: NameClient, message: Buffer, query: Query, transport: "udp" | "tcp"): Promise<Buffer> {
    const { containerId } = client;
    const waiting = this.#waiting.get(containerId) ?? 0;
    if (!this.#options.mayAsk(containerId) || waiting >= MAX_WAITING || this.#waitingAll >= MAX_WAITING_ALL)
      return encodeAnswer(query, transport, RCODE.SERVFAIL);
    const { egress } = this.#options;
    if (egress?.mayAsk(containerId, query.name) === false) return encodeAnswer(query, transport, RCODE.REFUSED);
    this.#waiting.set(containerId, waiting + 1);
    this.#waitingAll++;
    try {
      const attempts = await forward(message, query, await this.#serversOf(client), transport);
      const answer = attempts.findLast((attempt) => typeof attempt.answer !== "string")?.answer;
      if (!(answer instanceof Buffer)) return encodeAnswer(query, transport, RCODE.SERVFAIL);
      if (egress !== undefined && (query.type === TYPE.A || query.type === TYPE.AAAA) && rcodeOf(answer) === RCODE.NOERROR)
        await egress.answered(containerId, query.name, recordsOf(answer));
      return answer;
    } finally {
      this.#waitingAll--;
      const left = (this.#waiting.get(containerId) ?? 1) - 1;
      if (left > 0) this.#waiting.set(containerId, left);
      else this.#waiting.delete(containerId);
    }
  }

  async #serversOf({ servers }: Pick<NameClient, "servers">): Promise<readonly string[]> {
    return servers !== null && servers.length > 0 ? servers : await this.#options.resolvers();
  }

  /** What would be answered, step by step; without a client, as all networks see it. */
  async trace(client: NameClient | undefined, name: string, type: "A" | "AAAA"): Promise<NameTrace> {
    const bare = name.replace(/\.$/, "");
    const table = this.#options.table();
    const found = client === undefined ? table.findAll(bare) : [table.find(client.containerId, bare)].filter((each) => each !== undefined);
    if (found.length > 0) return { found: found.flatMap(shown), asked: [], internal: false, refused: false };
    if (client !== undefined && !this.#options.mayAsk(client.containerId)) return { found: [], asked: [], internal: true, refused: false };
    if (client !== undefined && this.#options.egress?.allows(client.containerId, bare) === false)
      return { found: [], asked: [], internal: false, refused: true };
    const message = encodeQuestion(bare, type);
    const query = parseQuery(message);
    if (query === undefined || typeof query === "number") throw new EngineError("invalid", `"${name.slice(0, 255)}" is no name that can be asked for`);
    const asked: NameTrace["asked"][number][] = [];
    for (const server of await this.#serversOf(client ?? { servers: null })) {
      const from = performance.now();
      const [attempt] = await forward(message, query, [server], "udp");
      if (attempt === undefined) continue;
      const answered = typeof attempt.answer !== "string" && settles(attempt.answer);
      asked.push({ server, result: describe(attempt), answered, ms: performance.now() - from });
      if (answered) break;
    }
    return { found: [], asked, internal: false, refused: false };
  }
}

function shown({ network, endpoints }: Found): NameTrace["found"] {
  return endpoints.map(({ names, ipv4, ipv6 }) => ({ network, container: names[0] ?? "", addresses: [ipv4, ipv6].filter((address) => address !== "") }));
}

/** In another order each time: whoever takes the first spreads its connections over all. */
function recordsFor({ endpoints }: Found, type: number): AnswerRecord[] {
  const records = endpoints.flatMap(({ ipv4, ipv6 }): AnswerRecord[] => [
    ...(ipv4 !== "" && (type === TYPE.A || type === TYPE.ANY) ? [{ type: "A" as const, data: ipv4 }] : []),
    ...(ipv6 !== "" && (type === TYPE.AAAA || type === TYPE.ANY) ? [{ type: "AAAA" as const, data: ipv6 }] : []),
  ]);
  for (let i = records.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [records[i], records[j]] = [records[j] as AnswerRecord, records[i] as AnswerRecord]; // both are within
  }
  return records;
}

function describe({ answer }: Attempt): string {
  if (typeof answer === "string") return answer;
  const code = Object.entries(RCODE).find(([, number]) => number === rcodeOf(answer))?.[0] ?? `code ${rcodeOf(answer)}`;
  if (code !== "NOERROR") return code;
  try {
    const records = recordsOf(answer).map(({ type, data, ttl }) => `${type} ${data} (${ttl} s)`);
    return records.length > 0 ? records.join(", ") : "no such record";
  } catch (error) {
    return `an answer that is malformed: ${(error as Error).message}`;
  }
}
