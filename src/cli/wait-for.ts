/** `POST /containers/{id}/wait`, asked before a start so that no exit is missed. @module */
import type { ApiClient } from "#api/client/mod.ts";
import type { WaitResult } from "#api/types/container-json.ts";
import { warn } from "./output.ts";
import type { CliIo } from "./io.ts";

export type WaitCondition = "not-running" | "next-exit" | "removed";

/** Resolves when the daemon waits; `result` settles when the condition holds. */
export async function waitFor(client: ApiClient, id: string, condition: WaitCondition, signal: AbortSignal): Promise<{ readonly result: Promise<WaitResult> }> {
  const path = `/containers/${id}/wait`;
  const options = { query: { condition }, signal };
  // In process there is no header to wait for: the call has reached the engine when it returns.
  if (client.direct) return { result: client.json<WaitResult>("POST", path, options) };
  const { body } = await client.stream("POST", path, options);
  return { result: readJson(body) };
}

async function readJson(body: AsyncIterable<Uint8Array>): Promise<WaitResult> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString("utf8")) as WaitResult; // the reply of this route
}

/** The exit code of a wait; 125 when waiting itself failed. Says on stderr why it ended, when the code does not. */
export function exitCodeOf(io: CliIo, result: WaitResult): number {
  const message = result.Error?.Message;
  if (message === undefined || message === "") {
    if (result.Reason !== undefined) warn(io, `wherry: ${result.Reason}`);
    return result.StatusCode;
  }
  warn(io, `Error waiting for container: ${message}`);
  return 125;
}
