import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { EngineError } from "#core/errors.ts";
import { type ByteString, pathOf, type SourceEntry, type SourceTree } from "./source-tree.ts";

export interface Download {
  /** One file, with the URL's last part as its name; "" when it has none. */
  readonly tree: SourceTree;
  readonly entry: SourceEntry;
  readonly sha256: string;
}

/** Fetches what ADD names, into the file `to`. @throws EngineError "invalid" with the server's answer, or what kept it from coming */
export async function download(url: string, to: string, signal: AbortSignal): Promise<Download> {
  const reply = await fetch(url, { signal, redirect: "follow" }).catch((cause: Error) => {
    if (signal.aborted) throw new EngineError("cancelled", "the build was cancelled", { cause });
    throw new EngineError("invalid", `ADD failed: Get ${JSON.stringify(url)}: ${cause.cause instanceof Error ? cause.cause.message : cause.message}`, {
      cause,
    });
  });
  if (!reply.ok) throw new EngineError("invalid", `ADD failed: failed to GET ${url} with status ${reply.status} ${reply.statusText}`);
  const hash = createHash("sha256");
  let size = 0;
  {
    await using file = await open(to, "wx", 0o600);
    for await (const chunk of (reply.body ?? []) as AsyncIterable<Uint8Array>) {
      hash.update(chunk);
      size += chunk.byteLength;
      await file.writeFile(chunk);
    }
  }
  const sha256 = hash.digest("hex");
  const modified = Date.parse(reply.headers.get("last-modified") ?? "");
  const name = pathOf(decodeURIComponent(new URL(url).pathname.split("/").at(-1) ?? "").replaceAll("/", "_"));
  const mtimeNs = BigInt(Number.isNaN(modified) ? 0 : modified) * 1_000_000n;
  const entry: SourceEntry = { path: name, type: "file", mode: 0o600, uid: 0, gid: 0, size, mtimeNs, target: "", major: 0, minor: 0, xattrs: [] };
  return { tree: fileTree(entry, to, sha256), entry, sha256 };
}

function fileTree(entry: SourceEntry, file: string, sha256: string): SourceTree {
  const find = (at: ByteString) => (at === entry.path ? entry : undefined);
  return {
    lstat: async (at) => find(at),
    async *walk(at) {
      const found = find(at);
      if (found !== undefined) yield found;
    },
    read: () => createReadStream(file),
    digest: async () => sha256,
    [Symbol.asyncDispose]: async () => undefined,
  };
}
