/** What else a client's session serves: secrets, agents, credentials, uploads. @module */
import { Duplex } from "node:stream";
import { Code, ConnectError } from "@connectrpc/connect";
import { EngineError } from "#core/errors.ts";
import type { BuildOptions } from "#engine/mod.ts";
import { Secrets } from "./gen/secrets_pb.ts";
import { Auth } from "./gen/session_pb.ts";
import { SSH } from "./gen/ssh_pb.ts";
import { Upload } from "./gen/upload_pb.ts";
import { Queue } from "./queue.ts";
import type { Session } from "./sessions.ts";

export async function secretOf(session: Session, id: string, signal: AbortSignal): Promise<Uint8Array | undefined> {
  if (!session.serves(Secrets, "GetSecret")) return undefined;
  try {
    return (await session.client(Secrets).getSecret({ ID: id }, { signal })).data;
  } catch (error) {
    if (ConnectError.from(error).code === Code.NotFound) return undefined;
    throw new EngineError("invalid", `secret ${id}: ${ConnectError.from(error).rawMessage}`, { cause: error });
  }
}

export async function agentOf(session: Session, id: string, signal: AbortSignal): Promise<(() => Duplex) | undefined> {
  if (!session.serves(SSH, "ForwardAgent")) return undefined;
  const client = session.client(SSH);
  try {
    await client.checkAgent({ ID: id }, { signal });
  } catch {
    // It has agents, but not this one.
    return undefined;
  }
  return () => {
    const out = new Queue<Bytes>();
    const headers = new Headers({ "buildkit.ssh.id": id });
    return duplexOf(out, client.forwardAgent(out, { headers, signal }));
  };
}

/** A message that carries bytes, of whichever service. */
export interface Bytes {
  readonly data: Uint8Array;
}

/** Bytes that go out and come in as messages. */
export function duplexOf(out: Queue<Bytes>, replies: AsyncIterable<Bytes>): Duplex {
  const iterator = replies[Symbol.asyncIterator]();
  return new Duplex({
    read() {
      iterator.next().then(
        (next) => this.push(next.done === true ? null : Buffer.from(next.value.data)),
        (error: Error) => this.destroy(error),
      );
    },
    write(chunk: Buffer, _encoding, done) {
      out.put({ data: new Uint8Array(chunk) });
      out.ready().then(() => done(), done);
    },
    final(done) {
      out.end();
      done();
    },
    destroy(error, done) {
      out.end();
      done(error);
    },
  });
}

/** Docker Hub's registry has another name than its images. */
const hubRegistry = "registry-1.docker.io";

export async function credentialsOf(session: Session, domain: string, signal: AbortSignal): Promise<Awaited<ReturnType<BuildOptions["credentials"]>>> {
  if (!session.serves(Auth, "Credentials")) return undefined;
  const { Username, Secret } = await session.client(Auth).credentials({ Host: domain === "docker.io" ? hubRegistry : domain }, { signal });
  if (Username === "" && Secret === "") return undefined;
  return Username === "" ? { identityToken: Secret } : { username: Username, password: Secret };
}

/** What the client has under that path: an archive from its standard input. */
export async function* uploadOf(session: Session, path: string, signal: AbortSignal): AsyncIterable<Uint8Array> {
  if (!session.serves(Upload, "Pull")) throw new EngineError("invalid", "the client's session uploads nothing");
  for await (const { data } of session.client(Upload).pull(nothing(), { headers: new Headers({ urlpath: path }), signal })) yield data;
}

/** The request of a call in which only the other side speaks. */
async function* nothing(): AsyncIterable<Bytes> {}
