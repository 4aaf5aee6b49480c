/** A client's store of blobs: where `--cache-to type=local` puts a cache, and `--cache-from type=local` has it. @module */
import { createHash, randomBytes } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Digest, isDigest } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import type { BlobPlace } from "#engine/mod.ts";
import { Content, type WriteContentRequest, WriteContentRequestSchema } from "./gen/content_pb.ts";
import { Queue } from "./queue.ts";
import { pieces } from "./send-result.ts";
import type { Session } from "./sessions.ts";

const action = { ask: 0, write: 1, commit: 2 } as const;

export class ClientStore implements BlobPlace {
  readonly name: string;
  readonly #session: Session;
  readonly #manifest: string;

  /** `path`: how the client calls it. `manifest`: the digest that it has looked up; "" = it has not. */
  constructor(session: Session, path: string, manifest: string) {
    if (!session.serves(Content, "Info")) throw new EngineError("invalid", `the client's session has no store ${path}`);
    this.name = path;
    this.#session = session;
    this.#manifest = manifest;
  }

  async manifest(): Promise<Digest | undefined> {
    return isDigest(this.#manifest) ? this.#manifest : undefined;
  }

  async size(digest: Digest): Promise<number | undefined> {
    try {
      const { info } = await this.#session.client(Content).info({ digest }, this.#call(this.#session.gone));
      return info === undefined ? undefined : Number(info.size);
    } catch (error) {
      if (ConnectError.from(error).code === Code.NotFound) return undefined;
      throw this.#failed(error);
    }
  }

  async *read(digest: Digest, signal: AbortSignal): AsyncIterable<Uint8Array> {
    try {
      for await (const { data } of this.#session.client(Content).read({ digest }, this.#call(signal))) yield data;
    } catch (error) {
      throw this.#failed(error);
    }
  }

  async put(content: AsyncIterable<Uint8Array> | Uint8Array, signal: AbortSignal | undefined): Promise<{ readonly digest: Digest; readonly size: number }> {
    const out = new Queue<WriteContentRequest>();
    const all = signal === undefined ? this.#session.gone : AbortSignal.any([signal, this.#session.gone]);
    const replies = this.#session.client(Content).write(out, this.#call(all))[Symbol.asyncIterator]();
    const hash = createHash("sha256");
    let size = 0;
    const say = async (message: Partial<Pick<WriteContentRequest, "action" | "ref" | "data" | "expected" | "total">>) => {
      out.put(create(WriteContentRequestSchema, { offset: BigInt(size), ...message }));
      if ((await replies.next()).done === true) throw new EngineError("invalid", `${this.name}: the client has ended the writing of a blob early`);
    };
    try {
      await say({ action: action.ask, ref: `wherry-${randomBytes(12).toString("hex")}` });
      for await (const chunk of content instanceof Uint8Array ? [content] : content) {
        for (const data of pieces(chunk)) {
          await say({ action: action.write, data });
          hash.update(data);
          size += data.byteLength;
        }
      }
      const digest: Digest = `sha256:${hash.digest("hex")}`;
      await say({ action: action.commit, expected: digest, total: BigInt(size) }).catch((error: unknown) => {
        // It had it before.
        if (ConnectError.from(error).code !== Code.AlreadyExists) throw error;
      });
      return { digest, size };
    } catch (error) {
      throw this.#failed(error);
    } finally {
      out.end();
    }
  }

  /** The client does it itself, with what the build answers. */
  async setManifest(): Promise<void> {}

  #call(signal: AbortSignal): { readonly headers: Headers; readonly signal: AbortSignal } {
    return { headers: new Headers({ "buildkit-attachable-store-id": `local:${this.name}` }), signal };
  }

  #failed(error: unknown): unknown {
    if (error instanceof EngineError) return error;
    const { code, rawMessage } = ConnectError.from(error);
    return new EngineError(code === Code.Canceled ? "cancelled" : "invalid", `${this.name}, at the client: ${rawMessage}`, { cause: error });
  }
}
