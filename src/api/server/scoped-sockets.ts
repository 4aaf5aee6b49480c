/**
 * Sockets with rights of their own, beside the engine's. They are remembered in one file and are there again when the daemon starts anew.
 * @module
 */
import { chmod, chown, mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, isAbsolute, normalize } from "node:path";
import { EngineError, errnoOf } from "#core/errors.ts";
import { Slots } from "#core/slots.ts";
import { asObject, wrongType } from "#api/types/fields.ts";
import type { Right, ScopedSocketJson } from "#api/types/socket-json.ts";
import type { Log } from "./router.ts";
import { parseRights } from "./scope/rights.ts";

export interface ScopedSocketsOptions {
  /** Where they are remembered; undefined: they end with this process. */
  readonly file: string | undefined;
  readonly log: Log;
  /** Listens at a path, within a scope. */
  readonly serve: (
    path: string,
    scope: { readonly allow: readonly Right[]; readonly labels: Readonly<Record<string, string>> },
  ) => Promise<() => Promise<void>>;
}

const maxSockets = 1000;

export class ScopedSockets {
  readonly #options: ScopedSocketsOptions;
  readonly #open = new Map<string, { readonly socket: ScopedSocketJson; readonly close: () => Promise<void> }>();
  /** One change after the other. */
  readonly #turn = new Slots(1);

  constructor(options: ScopedSocketsOptions) {
    this.#options = options;
  }

  list(): ScopedSocketJson[] {
    return [...this.#open.values()].map(({ socket }) => socket);
  }

  /** Opens those that are remembered. One that cannot be opened is told, and kept for the next start. */
  async restore(): Promise<void> {
    const { file, log } = this.#options;
    if (file === undefined) return;
    let text: string;
    try {
      text = await readFile(file, "utf8");
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return;
      throw error;
    }
    for (const value of JSON.parse(text) as unknown[]) {
      const socket = parseSocket(value);
      try {
        this.#open.set(socket.Name, { socket, close: await this.#listen(socket) });
      } catch (error) {
        log("warn", `socket ${socket.Name} at ${socket.Path} is not there: ${(error as Error).message}`);
        this.#open.set(socket.Name, { socket, close: async () => undefined });
      }
    }
  }

  /** @throws EngineError "invalid", "conflict" */
  create(body: unknown): Promise<ScopedSocketJson> {
    const socket = parseSocket(body);
    return this.#turn.run(async () => {
      if (this.#open.has(socket.Name)) throw new EngineError("conflict", `there is a socket ${socket.Name} already`);
      if (this.list().some(({ Path }) => Path === socket.Path)) throw new EngineError("conflict", `there is a socket at ${socket.Path} already`);
      if (this.#open.size >= maxSockets) throw new EngineError("conflict", `there are ${maxSockets} sockets already`);
      const close = await this.#listen(socket);
      this.#open.set(socket.Name, { socket, close });
      await this.#remember();
      return socket;
    });
  }

  /** Its clients are cut off. @throws EngineError "not-found" */
  remove(name: string): Promise<void> {
    return this.#turn.run(async () => {
      const found = this.#open.get(name);
      if (found === undefined) throw new EngineError("not-found", `no such socket: ${name}`);
      this.#open.delete(name);
      await this.#remember();
      await found.close();
      await rm(found.socket.Path, { force: true });
    });
  }

  /** Ends listening; they stay remembered. */
  async close(): Promise<void> {
    await Promise.all([...this.#open.values()].map(({ close }) => close()));
  }

  async #listen(socket: ScopedSocketJson): Promise<() => Promise<void>> {
    await mkdir(dirname(socket.Path), { recursive: true });
    const close = await this.#options.serve(socket.Path, { allow: socket.Allow, labels: socket.Labels });
    await chown(socket.Path, socket.Uid, socket.Gid);
    await chmod(socket.Path, Number.parseInt(socket.Mode, 8));
    return close;
  }

  async #remember(): Promise<void> {
    const { file } = this.#options;
    if (file === undefined) return;
    const handle = await open(`${file}.new`, "w", 0o600);
    try {
      await handle.writeFile(`${JSON.stringify(this.list(), null, 2)}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(`${file}.new`, file);
  }
}

/** @throws EngineError "invalid" with the field named */
export function parseSocket(value: unknown): ScopedSocketJson {
  const body = asObject(value, "");
  const text = (key: string, otherwise: string): string => {
    const given = body[key] ?? otherwise;
    if (typeof given !== "string") throw wrongType(key, "a string", given);
    return given;
  };
  const id = (key: string): number => {
    const given = body[key] ?? 0;
    if (typeof given !== "number" || !Number.isInteger(given) || given < 0 || given > 0xffff_fffe) throw wrongType(key, "an id", given);
    return given;
  };
  const Name = text("Name", "");
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}$/.test(Name)) throw new EngineError("invalid", `invalid name for a socket: "${Name.slice(0, 80)}"`);
  const Path = text("Path", "");
  if (!isAbsolute(Path) || normalize(Path) !== Path || Path.includes("\0") || Buffer.byteLength(Path) > 107)
    throw new EngineError("invalid", `invalid path for a socket: "${Path.slice(0, 120)}": it is absolute, without "..", of 107 bytes at most`);
  const Mode = text("Mode", "660");
  if (!/^[0-7]{3}$/.test(Mode)) throw new EngineError("invalid", `invalid mode for a socket: "${Mode.slice(0, 20)}": three octal digits`);
  const { Allow } = body;
  if (!Array.isArray(Allow) || !Allow.every((word): word is string => typeof word === "string")) throw wrongType("Allow", "a list of rights", Allow);
  const Labels = Object.fromEntries(
    Object.entries(asObject(body["Labels"] ?? {}, "Labels")).map(([key, label]) => {
      if (key === "" || typeof label !== "string") throw wrongType(`Labels.${key}`, "a string", label);
      return [key, label];
    }),
  );
  return { Name, Path, Allow: parseRights(Allow), Labels, Mode, Uid: id("Uid"), Gid: id("Gid") };
}
