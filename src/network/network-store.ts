/**
 * The file that networks are kept in.
 * @module
 */
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { NetworkRecord } from "./mod.ts";

interface Stored {
  readonly version: 1;
  readonly networks: readonly NetworkRecord[];
}

const fileOf = (dataRoot: string) => join(dataRoot, "network", "networks.json");

/** Empty when there is no file yet. EngineError "corrupt" when it cannot be read as what it should be. */
export async function loadNetworks(dataRoot: string): Promise<NetworkRecord[]> {
  const path = fileOf(dataRoot);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
  try {
    const stored = JSON.parse(text) as Stored; // checked in the next line; the file is written below
    if (stored.version === 1 && Array.isArray(stored.networks)) return [...stored.networks];
  } catch (cause) {
    throw new EngineError("corrupt", `${path} is not valid JSON`, { cause });
  }
  throw new EngineError("corrupt", `${path} is of a version that this wherry does not know`);
}

/** Rename after fsync: the old file or the new one, never half of it. */
export async function saveNetworks(dataRoot: string, networks: readonly NetworkRecord[]): Promise<void> {
  const path = fileOf(dataRoot);
  await mkdir(join(dataRoot, "network"), { recursive: true, mode: 0o700 });
  const temporary = `${path}.new`;
  const file = await open(temporary, "w", 0o600);
  try {
    await file.writeFile(`${JSON.stringify({ version: 1, networks } satisfies Stored, null, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
}
