/** Fetching an image, with its progress. @module */
import type { Writable } from "node:stream";
import type { ApiClient } from "#api/client/mod.ts";
import type { CliIo } from "./io.ts";
import { renderProgress } from "./progress.ts";
import { authHeaders } from "./registry/registry-auth.ts";

/** Splits `name:tag` and `name@digest` as `/images/create` takes them. */
export function splitReference(reference: string): { readonly name: string; readonly tag: string } {
  const at = reference.indexOf("@");
  if (at >= 0) return { name: reference.slice(0, at).replace(/:[^/:]*$/, ""), tag: reference.slice(at + 1) };
  const slash = reference.lastIndexOf("/");
  const colon = reference.indexOf(":", slash + 1);
  return colon < 0 ? { name: reference, tag: "latest" } : { name: reference.slice(0, colon), tag: reference.slice(colon + 1) };
}

export interface PullOptions {
  readonly io: CliIo;
  readonly client: ApiClient;
  readonly reference: string;
  readonly platform: string;
  readonly quiet: boolean;
  /** Where progress goes. */
  readonly output: Writable;
  readonly allTags?: boolean;
}

/** Throws Error when the daemon could not fetch it. */
export async function pullImage({ io, client, reference, platform, quiet, output, allTags }: PullOptions): Promise<void> {
  const { name, tag } = splitReference(reference);
  const { body } = await client.stream("POST", "/images/create", {
    query: { fromImage: name, tag: allTags === true ? undefined : tag, platform: platform || undefined },
    headers: await authHeaders(io, reference),
    signal: io.gone,
  });
  const terminal = output === io.stderr ? io.isTty.stderr : io.isTty.stdout;
  await renderProgress(body, { io, output, terminal, quiet });
}
