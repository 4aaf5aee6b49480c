/** Files of the client's, by fsutil's protocol: it lists them, we ask for contents by number. @module @see https://github.com/tonistiigi/fsutil */
import { create } from "@bufbuild/protobuf";
import { EngineError } from "#core/errors.ts";
import type { SentContext } from "#engine/mod.ts";
import { fromGoFileMode } from "../shape/go-file-mode.ts";
import { type Packet, PacketSchema, type Stat } from "./gen/fsutil_pb.ts";
import { FileSync } from "./gen/session_pb.ts";
import { listValue } from "./metadata.ts";
import { Queue } from "./queue.ts";
import type { Session } from "./sessions.ts";

export const packetType = { stat: 0, request: 1, data: 2, fin: 3, error: 4 } as const;

type Sender = Awaited<ReturnType<SentContext["open"]>>;
type Take = Parameters<Sender["contents"]>[1];
type Entry = Sender extends { entries(): AsyncIterable<infer E> } ? E : never;

export interface Wanted {
  /** The client's name of the directory: "context", "dockerfile", or that of a named context. */
  readonly name: string;
  readonly include?: readonly string[];
  readonly exclude?: readonly string[];
}

/** Begins to receive. The call lasts until it is disposed. */
export function receiveFiles(session: Session, { name, include = [], exclude = [] }: Wanted, signal: AbortSignal): Sender {
  if (!session.serves(FileSync, "DiffCopy")) throw new EngineError("invalid", "no local sources enabled: the client's session offers no files");
  const out = new Queue<Packet>();
  const headers = new Headers({ "dir-name": name });
  if (include.length > 0) headers.set("include-patterns", listValue(include));
  if (exclude.length > 0) headers.set("exclude-patterns", listValue(exclude));
  const abort = new AbortController();
  const all = AbortSignal.any([signal, session.gone, abort.signal]);
  const replies = session.client(FileSync).diffCopy(out, { headers, signal: all })[Symbol.asyncIterator]();
  return new Receiver(out, replies, () => abort.abort());
}

class Receiver implements Sender {
  readonly #out: Queue<Packet>;
  readonly #in: AsyncIterator<Packet>;
  readonly #cancel: () => void;
  readonly #wanted = new Map<number, { readonly take: Take; readonly done: () => void; readonly failed: (error: unknown) => void }>();
  #reading = false;

  constructor(out: Queue<Packet>, replies: AsyncIterator<Packet>, cancel: () => void) {
    this.#out = out;
    this.#in = replies;
    this.#cancel = cancel;
  }

  async *entries(): AsyncGenerator<Entry, void, undefined> {
    for (;;) {
      const packet = await this.#next();
      if (packet.type !== packetType.stat) throw new EngineError("invalid", `the client's list of files holds a packet of type ${packet.type}`);
      if (packet.stat === undefined) return;
      yield entryOf(packet.stat);
    }
  }

  async contents(numbers: readonly number[], take: Take): Promise<void> {
    const all = Promise.all(numbers.map((number) => new Promise<void>((done, failed) => this.#wanted.set(number, { take, done, failed }))));
    for (const number of numbers) this.#out.put(create(PacketSchema, { type: packetType.request, ID: number }));
    if (!this.#reading) void this.#read();
    await all;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#out.put(create(PacketSchema, { type: packetType.fin }));
    this.#out.end();
    this.#cancel();
  }

  async #read(): Promise<void> {
    this.#reading = true;
    try {
      while (this.#wanted.size > 0) {
        const { type, ID, data } = await this.#next();
        const wanted = this.#wanted.get(ID);
        if (type !== packetType.data || wanted === undefined)
          throw new EngineError("invalid", `the client has sent a packet that nobody asked for (type ${type}, ${ID})`);
        if (data.byteLength > 0) await wanted.take(ID, data);
        else {
          await wanted.take(ID, undefined);
          this.#wanted.delete(ID);
          wanted.done();
        }
      }
    } catch (error) {
      for (const { failed } of this.#wanted.values()) failed(error);
      this.#wanted.clear();
    } finally {
      this.#reading = false;
    }
  }

  async #next(): Promise<Packet> {
    const next = await this.#in.next();
    if (next.done === true) throw new EngineError("invalid", "the client has ended the transfer of files early");
    if (next.value.type === packetType.error)
      throw new EngineError("invalid", `the client cannot send its files: ${Buffer.from(next.value.data).toString("utf8").slice(0, 1000)}`);
    return next.value;
  }
}

function entryOf({ path, mode, uid, gid, size, modTime, linkname, devmajor, devminor, xattrs }: Stat): Entry {
  const kind = fromGoFileMode(mode);
  if (kind === undefined) throw new EngineError("invalid", `"${path.slice(0, 200)}" is of a type that is not known (${mode.toString(8)})`);
  if (path.includes("\0") || size < 0n || size > BigInt(Number.MAX_SAFE_INTEGER)) throw new EngineError("invalid", "the client's list of files is malformed");
  const latin = (text: string) => Buffer.from(text, "utf8").toString("latin1");
  return {
    path: latin(path),
    ...kind,
    uid,
    gid,
    size: kind.type === "file" ? Number(size) : 0,
    mtimeNs: modTime,
    target: kind.type === "symlink" ? latin(linkname) : "",
    major: Number(devmajor),
    minor: Number(devminor),
    xattrs: Object.entries(xattrs).map(([name, value]) => ({ name, value })),
    ...(kind.type === "file" && linkname !== "" ? { sameAs: latin(linkname) } : {}),
  };
}

/** The text of one small file; undefined: there is none of that name. */
export async function receiveText(session: Session, name: string, path: string, signal: AbortSignal): Promise<string | undefined> {
  return (await receiveTexts(session, name, [path], signal)).get(path);
}

/** Dockerfiles are small. Bytes. */
const maxTextBytes = 8 * 1024 * 1024;

export async function receiveTexts(session: Session, name: string, paths: readonly string[], signal: AbortSignal): Promise<Map<string, string>> {
  const sender = receiveFiles(session, { name, include: paths }, signal);
  try {
    const found = new Map<number, string>();
    let number = 0;
    for await (const { path, type, size } of sender.entries()) {
      const text = Buffer.from(path, "latin1").toString("utf8");
      if (type === "file" && paths.includes(text)) {
        if (size > maxTextBytes) throw new EngineError("invalid", `${text} has ${size} bytes; at most ${maxTextBytes} are accepted`);
        found.set(number, text);
      }
      number++;
    }
    const pieces = new Map(Array.from(found.keys(), (at) => [at, [] as Uint8Array[]]));
    await sender.contents([...found.keys()], async (at, piece) => {
      if (piece !== undefined) pieces.get(at)?.push(piece);
    });
    return new Map(Array.from(found, ([at, path]) => [path, Buffer.concat(pieces.get(at) ?? []).toString("utf8")]));
  } finally {
    await sender[Symbol.asyncDispose]();
  }
}
