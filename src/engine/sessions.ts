/**
 * Sessions: a client holds one, and what it has made in it (that carries {@link sessionLabel} with its id) goes away when nobody holds it any more. Nothing
 * about a session is stored: the labels say what belongs to whom, so that a daemon that was killed knows it too.
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";
import { EngineError, isEngineError } from "#core/errors.ts";
import { sessionLabel } from "#core/session-label.ts";
import type { Background } from "./background.ts";
import type { Engine } from "./mod.ts";

/** How long after a start clients of the former daemon may come back. */
const graceMs = 15_000;

/** What sessions need of an engine. */
type Objects = Pick<Engine, "containers" | "networks" | "volumes" | "images">;

export class Sessions {
  readonly #objects: Objects;
  readonly #background: Background;
  readonly #graceMs: number;
  /** How many hold it. */
  readonly #held = new Map<string, number>();
  readonly #closing = new AbortController();

  constructor(objects: Objects, background: Background, grace: number = graceMs) {
    this.#objects = objects;
    this.#background = background;
    this.#graceMs = grace;
  }

  /** Holds a session until the returned function is called; when the last one has called it, what was made is removed in the background. */
  hold(id: string): () => void {
    if (!/^[0-9a-f]{32}$/.test(id)) throw new EngineError("invalid", "the id of a session has 32 hexadecimal digits");
    this.#held.set(id, (this.#held.get(id) ?? 0) + 1);
    let released = false;
    return () => {
      if (released) return;
      released = true;
      const left = (this.#held.get(id) ?? 1) - 1;
      if (left > 0) return void this.#held.set(id, left);
      this.#held.delete(id);
      this.#background.add(`removing what session ${id} made`, this.end(id));
    };
  }

  /** Removes what was made in a session. @throws what the first removal that failed threw, after all were tried */
  async end(id: string): Promise<void> {
    const { containers, networks, volumes, images } = this.#objects;
    const filters = { label: [`${sessionLabel}=${id}`] };
    const failures: unknown[] = [];
    const each = async (removals: readonly (() => Promise<unknown>)[]): Promise<void> => {
      for (const result of await Promise.allSettled(removals.map((remove) => remove()))) {
        if (result.status === "rejected" && !isEngineError(result.reason, "not-found")) failures.push(result.reason);
      }
    };
    // What uses goes before what is used.
    await each(containers.list({ all: true, limit: undefined, filters }).map((one) => () => containers.remove(one.id, { force: true, volumes: true })));
    await each([
      ...(await networks.list(filters)).map((one) => () => networks.remove(one.Id)),
      ...(await volumes.list(filters)).map((one) => () => volumes.remove(one.Name, true)),
    ]);
    await each((await this.#images(id)).map((image) => () => images.remove(image, { force: true, prune: true })));
    if (failures.length > 0) throw failures[0];
  }

  /** Once, after a start: sessions whose clients do not come back are ended. */
  sweepLater(): void {
    this.#background.addEndless("removing what sessions of before made", this.#sweep());
  }

  close(): void {
    this.#closing.abort();
  }

  async #sweep(): Promise<void> {
    const { signal } = this.#closing;
    if ((await this.#known()).size === 0) return;
    await sleep(this.#graceMs, undefined, { signal, ref: false }).catch(() => undefined);
    if (signal.aborted) return;
    for (const id of await this.#known()) if (!this.#held.has(id)) await this.end(id);
  }

  async #images(id: string): Promise<string[]> {
    const all = await this.#objects.images.list();
    return all.filter((image) => image.config.config?.Labels?.[sessionLabel] === id).map((image) => image.id);
  }

  /** Sessions that have made something. */
  async #known(): Promise<Set<string>> {
    const { containers, networks, volumes, images } = this.#objects;
    const filters = { label: [sessionLabel] };
    const labels = [
      ...containers.list({ all: true, limit: undefined, filters }).map((one) => one.config.Labels),
      ...(await networks.list(filters)).map((one) => one.Labels),
      ...(await volumes.list(filters)).map((one) => one.Labels),
      ...(await images.list()).map((image) => image.config.config?.Labels),
    ];
    return new Set(labels.flatMap((one) => one?.[sessionLabel] ?? []));
  }
}
