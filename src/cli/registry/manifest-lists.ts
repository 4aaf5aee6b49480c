/** Manifest lists in the making, as `manifest create` and `annotate` keep them until they are pushed: one file for each, beside docker's client configuration. @module */
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "#core/errors.ts";
import type { Descriptor } from "#core/image-spec.ts";
import { isObject } from "#core/json.ts";
import { parseDescriptor } from "#core/manifest.ts";
import type { CliIo } from "../io.ts";
import { configDirectory } from "./docker-config.ts";

export interface ListEntry {
  /** As it was given. */
  readonly reference: string;
  readonly descriptor: Descriptor;
}

function pathOf(io: CliIo, list: string): string {
  return join(configDirectory(io), "wherry-manifests", `${encodeURIComponent(list)}.json`);
}

/** Undefined: there is none. */
export async function readList(io: CliIo, list: string): Promise<ListEntry[] | undefined> {
  let text: string;
  try {
    text = await readFile(pathOf(io, list), "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
  const value: unknown = JSON.parse(text);
  return (Array.isArray(value) ? value : []).map((item: unknown, i) => {
    const entry = isObject(item) ? item : {};
    return { reference: String(entry["reference"]), descriptor: parseDescriptor(entry["descriptor"], `entry ${i} of ${list}`) };
  });
}

export async function writeList(io: CliIo, list: string, entries: readonly ListEntry[]): Promise<void> {
  const path = pathOf(io, list);
  await mkdir(join(configDirectory(io), "wherry-manifests"), { recursive: true, mode: 0o700 });
  await writeFile(`${path}.new`, `${JSON.stringify(entries, undefined, 1)}\n`, { mode: 0o600 });
  await rename(`${path}.new`, path);
}

export async function removeList(io: CliIo, list: string): Promise<void> {
  await rm(pathOf(io, list), { force: true });
}
