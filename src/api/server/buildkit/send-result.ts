/** A build's result for the client: a file, or a directory by fsutil's protocol, in which it is the one who asks. @module */
import { create } from "@bufbuild/protobuf";
import { EngineError } from "#core/errors.ts";
import type { SolvedBuild } from "#engine/mod.ts";
import { goFileMode } from "../shape/go-file-mode.ts";
import { type Packet, PacketSchema, StatSchema } from "./gen/fsutil_pb.ts";
import { BytesMessageSchema, FileSend as FileSendBytes } from "./gen/send-file_pb.ts";
import { FileSend } from "./gen/send_pb.ts";
import { Queue } from "./queue.ts";
import { packetType } from "./receive-files.ts";
import type { Session } from "./sessions.ts";

/** Go's gRPC takes messages of at most 4 MiB. */
const pieceBytes = 1024 * 1024;

export interface Target {
  readonly session: Session;
  /** Which of the outputs that the client has asked for. */
  readonly output: number;
  readonly signal: AbortSignal;
}

function headersOf(output: number): Headers {
  return new Headers({ "buildkit-attachable-exporter-id": String(output) });
}

export function pieces(chunk: Uint8Array): Uint8Array[] {
  return Array.from({ length: Math.ceil(chunk.byteLength / pieceBytes) }, (_, i) => chunk.subarray(i * pieceBytes, (i + 1) * pieceBytes));
}

export async function sendFile(bytes: AsyncIterable<Uint8Array>, { session, output, signal }: Target): Promise<void> {
  if (!session.serves(FileSendBytes, "DiffCopy")) throw new EngineError("invalid", "the client's session takes no files");
  async function* messages() {
    for await (const chunk of bytes) for (const data of pieces(chunk)) yield create(BytesMessageSchema, { data });
  }
  for await (const _reply of session.client(FileSendBytes).diffCopy(messages(), { headers: headersOf(output), signal })); // it says nothing until it ends
}

type Root = NonNullable<Awaited<ReturnType<SolvedBuild["openRoot"]>>>;

/** All of the tree into the client's directory. `root` undefined: nothing is in it. */
export async function sendDirectory(root: Root | undefined, { session, output, signal }: Target): Promise<void> {
  if (!session.serves(FileSend, "DiffCopy")) throw new EngineError("invalid", "the client's session takes no files");
  const out = new Queue<Packet>();
  const paths: Uint8Array[] = [];
  const list = async () => {
    const seen = new Map<string, string>();
    for await (const { path, type, mode, uid, gid, size, mtimeNs, major, minor, target, nlink, dev, ino } of root?.walk("") ?? []) {
      if (path.length === 0 || type === "socket") continue;
      const name = Buffer.from(path).toString("utf8");
      const key = nlink > 1 && type !== "dir" ? `${dev}:${ino}` : undefined;
      const first = key === undefined ? undefined : seen.get(key);
      if (key !== undefined && first === undefined) seen.set(key, name);
      paths.push(path);
      const linkname = type === "symlink" ? Buffer.from(target ?? []).toString("utf8") : (first ?? "");
      const stat = create(StatSchema, {
        path: name,
        mode: goFileMode({ type, mode }),
        uid,
        gid,
        size: type === "file" && first === undefined ? BigInt(size) : 0n,
        modTime: mtimeNs,
        linkname,
        devmajor: BigInt(major),
        devminor: BigInt(minor),
      });
      out.put(create(PacketSchema, { type: packetType.stat, stat }));
      await out.ready();
    }
    out.put(create(PacketSchema, { type: packetType.stat }));
  };
  const send = async (ID: number) => {
    const path = paths[ID];
    if (path === undefined || root === undefined) throw new EngineError("invalid", `the client asks for file ${ID}, which is not there`);
    for await (const chunk of (await root.readFile(path)).data) {
      for (const data of pieces(chunk)) out.put(create(PacketSchema, { type: packetType.data, ID, data }));
      await out.ready();
    }
    out.put(create(PacketSchema, { type: packetType.data, ID }));
  };
  const listing = list().catch((error: unknown) => {
    out.end();
    throw error;
  });
  // Awaited below; until then a failure must not count as unhandled.
  listing.catch(() => undefined);
  for await (const { type, ID, data } of session.client(FileSend).diffCopy(out, { headers: headersOf(output), signal })) {
    if (type === packetType.request) await send(ID);
    else if (type === packetType.fin) {
      out.put(create(PacketSchema, { type: packetType.fin }));
      out.end();
    } else if (type === packetType.error)
      throw new EngineError("invalid", `the client cannot take the files: ${Buffer.from(data).toString("utf8").slice(0, 1000)}`);
  }
  await listing;
}
