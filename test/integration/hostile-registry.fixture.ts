/** A registry in this process that misbehaves on request. It serves one repository, `x`, from memory. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export type Reply = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>;

export const sha256 = (bytes: Uint8Array | string): `sha256:${string}` => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

export interface Blob {
  readonly bytes: Buffer;
  readonly mediaType: string;
}

export class HostileRegistry implements AsyncDisposable {
  /** `127.0.0.1:port` */
  readonly host: string;
  readonly manifests: Map<string, Blob> = new Map();
  readonly blobs: Map<string, Buffer> = new Map();
  /** `METHOD path authorization range`, in order. */
  readonly seen: { readonly method: string; readonly path: string; readonly authorization: string | undefined; readonly range: string | undefined }[] = [];
  /** What takes a request instead; the first that returns something else than false. */
  readonly tricks: ((request: IncomingMessage, response: ServerResponse, path: string) => boolean | Promise<boolean>)[] = [];
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    this.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async start(): Promise<HostileRegistry> {
    const server = createServer((request, response) => void self.#answer(request, response));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const self: HostileRegistry = new HostileRegistry(server);
    return self;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  reset(): void {
    this.tricks.length = 0;
    this.seen.length = 0;
  }

  /** Puts an image there; `layers` are tars as they shall be sent, `diffIds` what they unpack to. */
  image(
    tag: string,
    layers: readonly { readonly blob: Buffer; readonly diffId: string; readonly mediaType?: string }[],
    change: (manifest: Record<string, unknown>) => void = () => undefined,
    platform: { readonly architecture: string; readonly variant?: string } = { architecture: "amd64" },
  ): string {
    const config = Buffer.from(
      JSON.stringify({ ...platform, os: "linux", config: {}, rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) } }),
    );
    this.blobs.set(sha256(config), config);
    for (const { blob } of layers) this.blobs.set(sha256(blob), blob);
    const manifest: Record<string, unknown> = {
      schemaVersion: 2,
      mediaType: "application/vnd.docker.distribution.manifest.v2+json",
      config: { mediaType: "application/vnd.docker.container.image.v1+json", size: config.length, digest: sha256(config) },
      layers: layers.map(({ blob, mediaType }) => ({
        mediaType: mediaType ?? "application/vnd.docker.image.rootfs.diff.tar.gzip",
        size: blob.length,
        digest: sha256(blob),
      })),
    };
    change(manifest);
    return this.manifest(tag, manifest);
  }

  manifest(tag: string, value: unknown, mediaType?: string): string {
    const bytes = Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
    const own = (value as { mediaType?: unknown }).mediaType;
    const blob = { bytes, mediaType: mediaType ?? (typeof own === "string" ? own : "application/vnd.docker.distribution.manifest.v2+json") };
    this.manifests.set(tag, blob);
    this.manifests.set(sha256(bytes), blob);
    return sha256(bytes);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(request.url ?? "/", "http://x").pathname;
    const { authorization, range } = request.headers;
    this.seen.push({ method: request.method ?? "", path, authorization, range });
    for (const trick of this.tricks) if (await trick(request, response, path)) return;
    if (path === "/v2/") return void response.writeHead(200).end("{}");
    const [, kind, name = ""] = /^\/v2\/x\/(manifests|blobs)\/(.+)$/.exec(path) ?? [];
    const manifest = kind === "manifests" ? this.manifests.get(name) : undefined;
    if (manifest !== undefined) {
      const headers = { "content-type": manifest.mediaType, "content-length": manifest.bytes.length, "docker-content-digest": sha256(manifest.bytes) };
      return void response.writeHead(200, headers).end(request.method === "HEAD" ? undefined : manifest.bytes);
    }
    const blob = kind === "blobs" ? this.blobs.get(name) : undefined;
    if (blob === undefined)
      return void response.writeHead(404, { "content-type": "application/json" }).end('{"errors":[{"code":"UNKNOWN","message":"no such thing"}]}');
    const start = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? "0");
    if (start === 0) return void response.writeHead(200, { "content-length": blob.length }).end(blob);
    response
      .writeHead(206, { "content-length": blob.length - start, "content-range": `bytes ${start}-${blob.length - 1}/${blob.length}` })
      .end(blob.subarray(start));
  }
}
