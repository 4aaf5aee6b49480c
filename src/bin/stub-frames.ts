/** The frames between the stub and the daemon: `u8 type · u32 length (LE) · payload`. @module */
import type { Socket } from "node:net";

export const frameTypes = {
  hello: 1,
  stdin: 2,
  stdinEof: 3,
  signal: 4,
  winch: 5,
  /** Of an OCI runtime's stub: bytes that its launcher has sent, and its end. */
  fromLauncher: 6,
  launcherEnd: 7,
  stdout: 16,
  stderr: 17,
  readStdin: 18,
  raw: 19,
  exit: 20,
  execNode: 21,
  /** To an OCI runtime's stub: starts a launcher (u8: 1 = it stays until the program ends), sends it bytes, closes its socket. */
  launcher: 22,
  toLauncher: 23,
  dropLauncher: 24,
} as const;

export interface Frame {
  readonly type: number;
  readonly payload: Buffer;
}

/** A peer that does not keep to the protocol. */
export class ProtocolError extends Error {}

const headBytes = 5;
const nothing = new Uint8Array();
/** Command line and environment of a Linux process are at most 6 MiB. */
const maxHelloBytes = 8 * 1024 * 1024;
/** Everything else is small: input comes in pieces of at most 16 KiB. */
const maxBytes = 64 * 1024;
const protocolVersion = 1;

/** Cuts a byte stream into frames. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);

  /** Complete frames, in order. Throws ProtocolError for a frame that is too long. */
  push(chunk: Buffer): Frame[] {
    let data = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const frames: Frame[] = [];
    while (data.length >= headBytes) {
      const type = data[0]!;
      const length = data.readUInt32LE(1);
      if (length > (type === frameTypes.hello ? maxHelloBytes : maxBytes)) throw new ProtocolError(`a frame of type ${type} says it has ${length} bytes`);
      if (data.length < headBytes + length) break;
      frames.push({ type, payload: data.subarray(headBytes, headBytes + length) });
      data = data.subarray(headBytes + length);
    }
    this.#rest = data;
    return frames;
  }
}

/** So much is copied behind its head: a system call for two pieces costs more. */
const smallBytes = 1024;

/** False when the peer is slower than we are. `onTaken`: the payload's memory may be used again. */
export function writeFrame(socket: Socket, type: number, payload: Uint8Array = nothing, onTaken?: () => void): boolean {
  const small = payload.length <= smallBytes;
  const head = Buffer.allocUnsafe(small ? headBytes + payload.length : headBytes);
  head[0] = type;
  head.writeUInt32LE(payload.length, 1);
  if (small) {
    head.set(payload, headBytes);
    onTaken?.();
    return socket.write(head);
  }
  socket.cork();
  socket.write(head);
  const room = socket.write(payload, onTaken && ((error) => (error === null || error === undefined ? onTaken() : undefined)));
  socket.uncork();
  return room;
}

export interface Hello {
  /** Names the stub's descriptors at the helper; "" = they could not be handed over. */
  readonly token: string;
  readonly isTty: { readonly stdin: boolean; readonly stdout: boolean; readonly stderr: boolean };
  readonly rows: number;
  readonly columns: number;
  readonly umask: number;
  readonly cwd: string;
  /** Without the program's name. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** Reads lengths and strings, never beyond the payload. */
class Fields {
  readonly #data: Buffer;
  #at = 0;

  constructor(data: Buffer) {
    this.#data = data;
  }

  #take(bytes: number): number {
    const start = this.#at;
    if (bytes > this.#data.length - start) throw new ProtocolError("a hello ends within a field");
    this.#at += bytes;
    return start;
  }

  u8(): number {
    return this.#data[this.#take(1)]!;
  }

  u16(): number {
    return this.#data.readUInt16LE(this.#take(2));
  }

  u32(): number {
    return this.#data.readUInt32LE(this.#take(4));
  }

  text(): string {
    const length = this.u32();
    const start = this.#take(length);
    return this.#data.toString("utf8", start, start + length);
  }

  list(): string[] {
    const count = this.u32();
    const items: string[] = [];
    // Each item takes at least its length's four bytes, so a false count ends soon.
    for (let i = 0; i < count; i++) items.push(this.text());
    return items;
  }

  end(): void {
    if (this.#at !== this.#data.length) throw new ProtocolError("a hello has bytes behind its last field");
  }
}

/** undefined: the stub speaks another version. Throws ProtocolError for anything else that is wrong. */
export function parseHello({ type, payload }: Frame): Hello | undefined {
  if (type !== frameTypes.hello) throw new ProtocolError(`the first frame has type ${type}`);
  const fields = new Fields(payload);
  if (fields.u32() !== protocolVersion) return undefined;
  const token = fields.text();
  const bits = fields.u8();
  const rows = fields.u16();
  const columns = fields.u16();
  const umask = fields.u32();
  const cwd = fields.text();
  const argv = fields.list().slice(1);
  const env: Record<string, string> = {};
  for (const entry of fields.list()) {
    const equals = entry.indexOf("=");
    if (equals > 0) env[entry.slice(0, equals)] = entry.slice(equals + 1);
  }
  fields.end();
  return { token, isTty: { stdin: (bits & 1) !== 0, stdout: (bits & 2) !== 0, stderr: (bits & 4) !== 0 }, rows, columns, umask, cwd, argv, env };
}
