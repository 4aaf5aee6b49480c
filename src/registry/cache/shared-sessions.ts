import type { Credentials } from "../credentials.ts";
import type { Registries } from "../registries.ts";
import type { RegistrySession } from "../session.ts";

/** A session asks a registry how it is reached, and holds tokens and connections: it is used for so long. */
const lifeMs = 5 * 60_000;

interface Shared {
  readonly session: Promise<RegistrySession>;
  readonly expiresAt: number;
  users: number;
}

/** One conversation with each registry, for all that ask for something of it. */
export class SharedSessions implements AsyncDisposable {
  readonly #registries: Registries;
  readonly #credentials: (domain: string) => Promise<Credentials | undefined>;
  readonly #sessions = new Map<string, Shared>();

  constructor(registries: Registries, credentials: (domain: string) => Promise<Credentials | undefined>) {
    this.#registries = registries;
    this.#credentials = credentials;
  }

  async use<T>(domain: string, work: (session: RegistrySession) => Promise<T>): Promise<T> {
    const shared = this.#get(domain);
    shared.users++;
    try {
      return await work(await shared.session);
    } finally {
      shared.users--;
      await this.#endUnused(shared);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const all = [...this.#sessions.values()];
    this.#sessions.clear();
    for (const shared of all) await this.#endUnused(shared);
  }

  #get(domain: string): Shared {
    const known = this.#sessions.get(domain);
    if (known !== undefined && known.expiresAt > Date.now()) return known;
    const session = this.#credentials(domain).then((credentials) => this.#registries.open({ domain, credentials }));
    const shared: Shared = { session, expiresAt: Date.now() + lifeMs, users: 0 };
    this.#sessions.set(domain, shared);
    // A registry that could not be reached is asked again by the next.
    session.catch(() => {
      if (this.#sessions.get(domain) === shared) this.#sessions.delete(domain);
    });
    if (known !== undefined) void this.#endUnused(known);
    return shared;
  }

  async #endUnused(shared: Shared): Promise<void> {
    if (shared.users > 0 || [...this.#sessions.values()].includes(shared)) return;
    const session = await shared.session.catch(() => undefined); // its error was told to who used it
    await session?.[Symbol.asyncDispose]();
  }
}
