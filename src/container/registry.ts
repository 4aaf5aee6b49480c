/**
 * All containers in memory, by id and by name. Lookups are synchronous and never wait: records are replaced, not changed, so what was read stays as it was.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import { Container } from "./container.ts";
import type { ContainerRecord } from "./mod.ts";

export class ContainerRegistry {
  readonly #byId = new Map<string, Container>();
  readonly #idByName = new Map<string, string>();

  /** Names are taken before anything is made, so two creators cannot both have one. @throws EngineError "conflict" with Docker's text */
  reserveName(name: string, id: string): void {
    const holder = this.#idByName.get(name);
    if (holder !== undefined && holder !== id) {
      throw new EngineError(
        "conflict",
        `Conflict. The container name "/${name}" is already in use by container "${holder}". You have to remove (or rename) that container to be able to reuse that name.`,
      );
    }
    this.#idByName.set(name, id);
  }

  /** Frees a name, if that container holds it. */
  releaseName(name: string, id: string): void {
    if (this.#idByName.get(name) === id) this.#idByName.delete(name);
  }

  nameTaken(name: string): boolean {
    return this.#idByName.has(name);
  }

  add(record: ContainerRecord): Container {
    const container = new Container(record);
    this.#byId.set(record.id, container);
    this.#idByName.set(record.name, record.id);
    return container;
  }

  delete(container: Container): void {
    this.#byId.delete(container.id);
    this.releaseName(container.record.name, container.id);
  }

  /** Oldest first. */
  all(): IterableIterator<Container> {
    return this.#byId.values();
  }

  get count(): number {
    return this.#byId.size;
  }

  has(id: string): boolean {
    return this.#byId.has(id);
  }

  /** By id, name, or unambiguous id prefix. @throws EngineError "not-found": `No such container: X` */
  get(name: string): Container {
    const found = this.find(name);
    if (found === undefined) throw new EngineError("not-found", `No such container: ${name}`);
    return found;
  }

  /** @throws EngineError "invalid" for an empty name or an ambiguous prefix */
  find(name: string): Container | undefined {
    if (name === "") throw new EngineError("invalid", "No container name or ID supplied");
    const exact = this.#byId.get(name);
    if (exact !== undefined) return exact;
    const named = this.#idByName.get(name.startsWith("/") ? name.slice(1) : name);
    // A name is reserved a little before its container exists.
    if (named !== undefined) return this.#byId.get(named);
    if (!/^[0-9a-f]{1,64}$/.test(name)) return undefined;
    let match: Container | undefined;
    for (const [id, container] of this.#byId) {
      if (!id.startsWith(name)) continue;
      if (match !== undefined) throw new EngineError("invalid", `multiple IDs found with provided prefix: ${name}`);
      match = container;
    }
    return match;
  }
}
